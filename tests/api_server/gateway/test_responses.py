"""What the reader of response heads remembers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.answer import Answer
from api_server.gateway.errors import BadResponseError
from api_server.gateway.forwarding import Client
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.memo import Memo
from api_server.gateway.requests import RequestReader
from api_server.gateway.responses import ResponseHead, ResponseReader
from common.tunnel.stream import Buffer
from tests.api_server.fakes import FakeClock


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


@given(
    status=st.sampled_from([b"200", b"204", b"206", b"304", b"404", b"426", b"500"]),
    fields=st.lists(
        st.sampled_from(
            (
                b"Date: Sun, 22 Nov 2026 00:00:00 GMT|Content-Length: 0|Content-Length: 7|Connection: close|X: y|"
                b"Transfer-Encoding: chunked|Upgrade: TLS/1.0|Connection: upgrade|Set-Cookie: a=b"
            ).split(b"|")
        ),
        unique=True,
        max_size=5,
    ),
)
def test_the_head_that_most_clients_get_is_the_one_that_is_put_together(status: bytes, fields: list[bytes]) -> None:
    received = b"\r\n".join([b"HTTP/1.1 " + status + b" x", *fields, b"", b""])
    reader = ResponseReader(Memo(), max_fields=100)
    try:
        read = reader.read(received)
    except BadResponseError:
        return
    request = RequestReader(Client("192.0.2.7", lambda: b"gw"), Memo(), max_target=100, max_fields=9).read(
        b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n"
    )
    sent: list[list[Buffer]] = []
    for head in (read, read._replace(whole=b"")):
        sent.append([])
        answer = Answer(request, Known(head), GatewayLimits(), FakeClock())
        answer.feed(received, sent[-1], persistent=True)
    assert sent[0] == sent[1]


class Known(ResponseReader):
    """Has read one head already."""

    def __init__(self, head: ResponseHead) -> None:
        super().__init__(Memo(), max_fields=0)
        self._head = head

    def read(self, head: bytes) -> ResponseHead:
        return self._head
