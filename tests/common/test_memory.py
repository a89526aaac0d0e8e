"""Freed buffers are used again instead of being given back."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import resource, sys
from common.memory import keep_freed_memory

if "keep" in sys.argv and not keep_freed_memory():
    sys.exit("no mallopt")

def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def read() -> None:
    buffers = [b"x" * (256 * 1024) for _ in range(6)]

for _ in range(10):
    read()
before = faults()
for _ in range(100):
    read()
print(faults() - before)
"""


def page_faults(*arguments: str) -> int:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return int(result.stdout)


def test_buffers_that_come_and_go_cost_no_page_faults() -> None:
    """100 times 6 reads of 64 pages each: 38,400 faults if each buffer is new memory."""
    assert page_faults("keep") < 1_000
    assert page_faults() > 10_000, "the C library keeps them by itself: there is nothing to set any more"
