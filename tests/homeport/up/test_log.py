"""Lines of several processes on one output."""

from __future__ import annotations

import contextlib
import io
import os

from hypothesis import given
from hypothesis import strategies as st

from homeport.up.log import LineSplitter, LogPrinter


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)), st.data())
def test_lines_come_out_whole_whatever_the_pieces(lines: list[str], data: st.DataObject) -> None:
    stream = "".join(f"{line}\n" for line in lines).encode()
    splitter = LineSplitter()
    found: list[str] = []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:count])
        stream = stream[count:]
    assert found == lines
    assert splitter.finish() == []


def test_a_last_line_without_end() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\r\ntwo") == ["one"]
    assert splitter.finish() == ["two"]
    assert splitter.finish() == []


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    splitter = LineSplitter()
    assert sum(len(line) for _ in range(100) for line in splitter.feed(b"x" * 10_000)) >= 980_000


GONE = "\N{REPLACEMENT CHARACTER}"


def test_prefix_colour_and_harmless_text() -> None:
    output = io.StringIO()
    LogPrinter(output, ["up", "relay"], colour=False).line("up", "a\tb\x1b[31m\x07\x9b")
    assert output.getvalue() == f"up    | a\tb{GONE}[31m{GONE}{GONE}\n"
    output = io.StringIO()
    LogPrinter(output, ["up", "relay"], colour=True).line("relay", "ready")
    assert output.getvalue() == "\x1b[32mrelay |\x1b[0m ready\n"


def test_a_terminal_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = os.fdopen(writer, "w")
    log = LogPrinter(output, ["a"], colour=False)
    log.line("a", "still kept")
    assert log.last_lines("a") == ["still kept"]
    with contextlib.suppress(BrokenPipeError):
        output.close()


def test_the_last_lines_of_each() -> None:
    log = LogPrinter(io.StringIO(), ["a", "b"], colour=False, kept=2)
    for number in range(5):
        log.line("a", str(number))
    assert log.last_lines("a") == ["3", "4"]
    assert log.last_lines("b") == []
