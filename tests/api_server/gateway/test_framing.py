"""Bodies: what goes on, where they end, what is refused. Each is read whole, byte by byte, and with bytes behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.fields import MalformedError
from api_server.gateway.framing import Body, ChunkedBody, EmptyBody, LengthBody, UntilClose
from common.tunnel.stream import Buffer
from tests.api_server.gateway.memory import pieces

BEHIND = b"GET /next"

GOOD = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", None, b"hello"),
    "two chunks": (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", None, b"hello world"),
    "no chunk": (b"0\r\n\r\n", None, b""),
    "large hexadecimal digits": (b"A\r\n0123456789\r\n0\r\n\r\n", None, b"0123456789"),
    "leading zeros": (b"0005\r\nhello\r\n000\r\n\r\n", None, b"hello"),
    "line ends in the data": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", None, b"\r\n\r\n"),
    "extensions": (
        b'5;a=b;c="d e"\r\nhello\r\n0 ;x\r\n\r\n',
        b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    "trailers": (
        b"5\r\nhello\r\n0\r\nDigest: x\r\nX-T:  1 \r\n\r\n",
        b"5\r\nhello\r\n0\r\nDigest: x\r\nX-T: 1\r\n\r\n",
        b"hello",
    ),
    "trailers that pretend to be something": (
        b"0\r\nX-Homeport-A: x\r\nX-Forwarded-For: 1\r\nX_Forwarded_For: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\n\r\n",
        b"",
    ),
    "trailers that must not be there": (
        b"5\r\nhello\r\n0\r\nContent-Length: 5\r\nHost: x\r\nAuthorization: x\r\nSet-Cookie: a=b\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
}

BAD = [
    b"\r\n",
    b"x\r\n",
    b"5",
    b"5\n",
    b"-1\r\n",
    b"+1\r\n",
    b"0x1\r\n",
    b"1_0\r\n",
    b" 1\r\n",
    b"1 \r\n",
    b"1;\x00\r\n",
    b"1;\r\r\n",
    b"1;\n\r\n",
    b"1" * 16 + b"\r\n",
    b"5;" + b"a" * 300 + b"\r\n",
    b"5\r\nhello\n",
    b"5\r\nhello0\r\n",
    b"5\r\nhelloX\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\nX : 1\r\n\r\n",
    b"0\r\nX: 1\r\n 2\r\n\r\n",
    b"0\r\nX: 1\n\r\n",
    b"0\r\n" + b"X: 1\r\n" * 4000,
    b"0\r\nX: " + b"1" * 5000,
]


def read(body: Body, parts: list[bytes]) -> tuple[bytes, bytes]:
    """What goes on of a body, and what follows it."""
    out: list[Buffer] = []
    rest = b""
    for part in parts:
        if body.complete:
            rest += part
        else:
            end = body.feed(part, 0, out)
            assert end == len(part) or body.complete
            rest += part[end:]
    return b"".join(out), rest


@pytest.mark.parametrize(("received", "goes_on", "data"), GOOD.values(), ids=GOOD.keys())
def test_chunks(received: bytes, goes_on: bytes | None, data: bytes) -> None:
    for decode, expected in ((False, goes_on or received), (True, data)):
        for parts in ([received + BEHIND], [received, BEHIND], [bytes([byte]) for byte in received + BEHIND]):
            body = ChunkedBody(decode=decode)
            assert read(body, parts) == (expected, BEHIND)
            assert body.complete


@pytest.mark.parametrize("received", BAD)
@pytest.mark.parametrize("decode", [False, True])
def test_bad_chunks(received: bytes, decode: bool) -> None:
    received = received + b"hello" * 1000
    for parts in ([received], [bytes([byte]) for byte in received]):
        with pytest.raises(MalformedError):
            read(ChunkedBody(decode=decode), parts)


def test_what_is_good_goes_on_before_what_is_bad_is_refused() -> None:
    out: list[Buffer] = []
    with pytest.raises(MalformedError):
        ChunkedBody().feed(b"5\r\nhello\r\nx\r\n", 0, out)
    assert b"".join(out) == b"5\r\nhello\r\n"


def test_many_chunks_go_on_as_one_slice_and_uncopied() -> None:
    data = b"5\r\nhello\r\n" * 100
    out: list[Buffer] = []
    ChunkedBody().feed(data, 0, out)
    assert len(out) == 1
    assert out[0] is data


def test_a_part_of_what_was_received_goes_on_uncopied() -> None:
    data = b"head" + b"x" * 100 + b"next"
    for body in (LengthBody(100), ChunkedBody()):
        framed = data if isinstance(body, LengthBody) else b"head" + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\nnext"
        out: list[Buffer] = []
        assert framed[body.feed(framed, 4, out) :] == b"next"
        (view,) = out
        assert isinstance(view, memoryview)
        assert view.obj is framed


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    extension=st.sampled_from([b"", b";a", b' ;a="b"']),
    trailers=st.sampled_from([b"", b"X-T: 1\r\n", b"Host: x\r\nX-T: 1\r\n"]),
    cuts=st.lists(st.integers(min_value=0, max_value=5000), max_size=30),
)
def test_chunks_in_pieces(chunks: list[bytes], extension: bytes, trailers: bytes, cuts: list[int]) -> None:
    def framed(extension: bytes, trailers: bytes) -> bytes:
        lines = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
        return b"".join(lines) + b"0%b\r\n%b\r\n" % (extension, trailers)

    parts = pieces(framed(extension, trailers) + BEHIND, cuts)
    assert read(ChunkedBody(), parts) == (framed(b"", trailers.replace(b"Host: x\r\n", b"")), BEHIND)
    assert read(ChunkedBody(decode=True), parts) == (b"".join(chunks), BEHIND)


@given(junk=st.binary(max_size=400), cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=30))
def test_whatever_comes_it_is_read_alike_in_pieces_or_refused(junk: bytes, cuts: list[int]) -> None:
    def outcome(parts: list[bytes]) -> tuple[bytes, bytes] | None:
        try:
            return read(ChunkedBody(decode=True), parts)
        except MalformedError:
            return None

    assert outcome([junk]) == outcome(pieces(junk, cuts))


@given(
    length=st.integers(min_value=0, max_value=500),
    cuts=st.lists(st.integers(min_value=0, max_value=600), max_size=20),
)
def test_a_body_of_known_length_in_pieces(length: int, cuts: list[int]) -> None:
    data = bytes(number & 0xFF for number in range(length))
    body = LengthBody(length)
    assert read(body, pieces(data + BEHIND, cuts)) == (data, BEHIND)
    assert body.complete
    assert body.bounded


def test_a_body_that_ends_with_the_connection_takes_everything() -> None:
    body = UntilClose()
    assert read(body, [b"a", b"bc"]) == (b"abc", b"")
    assert not body.complete
    assert not body.bounded


def test_no_body() -> None:
    body = EmptyBody()
    assert read(body, [BEHIND]) == (b"", BEHIND)
    assert body.feed(BEHIND, 3, []) == 3
