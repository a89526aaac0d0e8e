"""Signals that stop a process: heard twice, then ignored, however many come."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal
from common.process import on_stop_signals

heard = []

def call():
    heard.append(1)
    os.kill(os.getpid(), signal.SIGINT)  # as a flood does: the next one comes in the middle of this one

on_stop_signals(call)
os.kill(os.getpid(), {first})
for _ in range(1000):
    os.kill(os.getpid(), signal.SIGTERM)
print(len(heard))
"""


def test_a_flood_of_signals_does_not_nest_until_the_stack_is_full() -> None:
    for first in (signal.SIGTERM, signal.SIGINT):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(first=int(first))], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
