"""What each of Homeport's processes does alike: it says when it is ready, and takes its signals to the very end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from common.crypto.keyfiles import write_public

__all__ = ["STOP_SIGNALS", "ignore_stop_signals", "on_stop_signals", "write_ready_file"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_HEARD = 2
"""Signals that mean something: end in order, and then without the grace."""


def on_stop_signals(call: Callable[[], object], numbers: Collection[signal.Signals] = STOP_SIGNALS) -> None:
    """Have `call` called for the first of these signals, and for the second, by the main thread between any two
    instructions: it should do no more than wake a loop. Later ones are ignored.

    Not by the loop's own means: a loop that closes puts the default action back, and a supervisor that repeats its
    signal would then turn an end in order into a death by signal. So end with `ignore_stop_signals`. And not for ever:
    Python handles a signal in the middle of the handler of the one before, so a flood of them would nest until the
    stack is full, and the error would come out of whatever the process was doing.
    """
    heard = 0

    def handle(*_: object) -> None:
        nonlocal heard
        heard += 1
        if heard == _HEARD:
            ignore_stop_signals(numbers)
        if heard <= _HEARD:
            call()

    for number in numbers:
        signal.signal(number, handle)


def ignore_stop_signals(numbers: Collection[signal.Signals] = STOP_SIGNALS) -> None:
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
