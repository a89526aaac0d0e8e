"""What the reader of response heads remembers."""

from __future__ import annotations

import pytest

from api_server.gateway.memo import Memo
from api_server.gateway.responses import ResponseReader


@pytest.fixture
def reader() -> ResponseReader:
    """A reader that has read nothing."""
    return ResponseReader(Memo(), max_fields=100)


def head(*fields: bytes) -> bytes:
    return b"".join([b"HTTP/1.1 200 OK\r\n", *(field + b"\r\n" for field in fields), b"\r\n"])


def test_the_same_head_is_understood_once(reader: ResponseReader) -> None:
    first = reader.read(head(b"Content-Length: 5"))
    assert reader.read(head(b"Content-Length: 6")).framing.length == 6
    assert reader.read(head(b"Content-Length: 5")) is first


def test_cookies_are_not_kept(reader: ResponseReader) -> None:
    first = reader.read(head(b"Content-Length: 0", b"Set-Cookie: session=secret"))
    again = reader.read(head(b"Content-Length: 0", b"Set-Cookie: session=secret"))
    assert again == first
    assert again is not first


def test_a_long_head_is_not_kept(reader: ResponseReader) -> None:
    long = head(b"Content-Length: 0", b"X: " + b"x" * 4096)
    assert reader.read(long) is not reader.read(long)


def test_only_some_are_kept_and_those_that_come_again_stay() -> None:
    reader = ResponseReader(Memo(max_entries=10), max_fields=100)
    once, again = reader.read(head(b"X: once")), reader.read(head(b"X: again"))
    for number in range(100):
        reader.read(head(b"X: %d" % number))
        assert reader.read(head(b"X: again")) is again
    assert reader.read(head(b"X: once")) is not once
