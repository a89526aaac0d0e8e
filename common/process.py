"""What each of Homeport's processes does alike: it says when it is ready, and takes its signals to the very end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from common.crypto.keyfiles import write_public

__all__ = ["STOP_SIGNALS", "ignore_stop_signals", "on_stop_signals", "write_ready_file"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signals(call: Callable[[], object], numbers: Iterable[signal.Signals] = STOP_SIGNALS) -> None:
    """Have `call` called for each of these signals from now on, by the main thread between any two instructions: it
    should do no more than wake a loop.

    Not by the loop's own means: a loop that closes puts the default action back, and a supervisor that repeats its
    signal would then turn an end in order into a death by signal. So end with `ignore_stop_signals`.
    """
    for number in numbers:
        signal.signal(number, lambda *_: call())


def ignore_stop_signals(numbers: Iterable[signal.Signals] = STOP_SIGNALS) -> None:
    """Let nothing more be hurried: what is left of the process takes a moment."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def write_ready_file(path: Path | None, content: Mapping[str, Any]) -> None:
    """Tell others, as one JSON object that is put in place whole: this process's `pid`, and `content`.

    Args:
        path: where to; None where nobody wants to know.

    Raises:
        KeyFileError: it cannot be written.
    """
    if path is not None:
        write_public(path, json.dumps({"pid": os.getpid(), **content}) + "\n")
