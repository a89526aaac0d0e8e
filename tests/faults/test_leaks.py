"""The leak check finds what a process keeps, and nothing in one that gives it back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.leaks import LeakCheck, LeakError
from tests.stack.process import Process

_HOARDER = """
import json, socket, sys, threading
kept = {}
print(json.dumps({}), flush=True)
for line in sys.stdin:
    word, _, size = line.strip().partition(" ")
    if word == "socket":
        kept[word] = socket.socket()
    elif word == "memory":
        kept[word] = bytes(range(256)) * (int(size) // 256)
    elif word == "thread":
        kept[word] = threading.Event()
        threading.Thread(target=kept[word].wait, daemon=True).start()
    elif word == "drop":
        for each in kept.values():
            if isinstance(each, socket.socket):
                each.close()
            elif isinstance(each, threading.Event):
                each.set()
        each = None
        kept.clear()
    print(json.dumps({}), flush=True)
"""


class _Hoarder:
    def __init__(self, process: Process) -> None:
        self.process = process
        process.read_json()

    def do(self, words: str) -> None:
        self.process.send_line(words)
        self.process.read_json()


@pytest.fixture
def hoarder(tmp_path: Path) -> Iterator[_Hoarder]:
    with Process("hoarder", [sys.executable, "-c", _HOARDER], folder=tmp_path, json_output=True) as process:
        yield _Hoarder(process)


@pytest.mark.parametrize("what", ["socket", "thread", f"memory {32 << 20}"])
def test_what_is_kept_is_found_and_what_is_given_back_is_not(hoarder: _Hoarder, what: str) -> None:
    check = LeakCheck({"hoarder": hoarder.process.pid}, memory_tolerance=16 << 20)
    before = check.settled()
    hoarder.do(what)
    with pytest.raises(LeakError, match=r"hoarder\.(descriptors|threads|memory): \S+ before, \S+ now"):
        check.wait_until_level(before, seconds=0.2)
    hoarder.do("drop")
    check.wait_until_level(before)


def test_memory_below_the_tolerance_is_no_leak(hoarder: _Hoarder) -> None:
    check = LeakCheck({"hoarder": hoarder.process.pid}, memory_tolerance=64 << 20)
    before = check.settled()
    hoarder.do(f"memory {16 << 20}")
    check.wait_until_level(before)


def test_gauges_count() -> None:
    """Also downwards: a session that is gone is as wrong as a stream that has stayed."""
    streams = {"relay_streams": 3.0}
    check = LeakCheck({}, {"relay": lambda: streams})
    before = check.level()
    streams["relay_streams"] = 2.0
    with pytest.raises(LeakError, match=r"relay\.relay_streams: 3 before, 2 now"):
        check.wait_until_level(before, seconds=0.1)
