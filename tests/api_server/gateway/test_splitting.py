"""However the bytes of a request or a response are cut up on their way in, the same bytes go out."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api_server.gateway.memory import Memory, pieces, without_traces
from tests.api_server.gateway.stage import BEARER

GET = f"GET /d/home/cam/web/a?b=c HTTP/1.1\r\nHost: gw\r\n{BEARER}X-A: b\r\nCookie: a=1; homeport=2\r\n\r\n".encode()
POST = f"POST /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n{BEARER}Content-Length: 11\r\n\r\nhello world".encode()
CHUNKED = (
    f"PUT /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n{BEARER}Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    "5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-T: 1\r\nContent-Length: 5\r\n\r\n"
).encode()
OLD = f"GET /d/home/cam/web/ HTTP/1.0\r\nConnection: keep-alive\r\n{BEARER}\r\n".encode()
REFUSED = f"GET /nothing HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n".encode()
REFUSED_POST = f"POST /nothing HTTP/1.1\r\nHost: gw\r\n{BEARER}Content-Length: 5\r\n\r\nhello".encode()

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-B: c\r\nConnection: keep-alive\r\n\r\nhello"
HINTED = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK
CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    b"5\r\nhello\r\n6;a=b\r\n world\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\nSet-Cookie: homeport=1\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\nSet-Cookie: homeport=1\r\nSet-Cookie: other=1\r\n\r\n"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + bytes(70_000)

cuts = st.lists(st.integers(min_value=0, max_value=100_000), max_size=40)


def carry(request: list[bytes], response: list[bytes]) -> tuple[bytes, bytes, bool]:
    """What the service gets, what the client gets, and whether the stream was kept for the next request."""
    memory = Memory()
    memory.from_client(request)
    memory.from_service(response)
    assert not memory.client.aborted
    return without_traces(bytes(memory.service.written)), bytes(memory.client.written), len(memory.pool) == 1


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, OLD])
@given(cuts=cuts)
def test_a_request_in_pieces(request_: bytes, cuts: list[int]) -> None:
    whole = carry([request_], [OK])
    assert whole[0].startswith(request_[: request_.index(b" ")])
    assert whole[1].endswith(b"hello")
    assert whole[2]
    assert carry(pieces(request_, cuts), [OK]) == whole


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, OLD])
def test_a_request_byte_by_byte(request_: bytes) -> None:
    assert carry([bytes([byte]) for byte in request_], [OK]) == carry([request_], [OK])


@pytest.mark.parametrize("response", [OK, HINTED, CHUNKS, EMPTY, LARGE])
@pytest.mark.parametrize("request_", [GET, OLD])
@given(cuts=cuts)
def test_a_response_in_pieces(request_: bytes, response: bytes, cuts: list[int]) -> None:
    whole = carry([request_], [response])
    assert whole[2]
    assert carry([request_], pieces(response, cuts)) == whole


@pytest.mark.parametrize("response", [OK, HINTED, CHUNKS, EMPTY])
def test_a_response_byte_by_byte(response: bytes) -> None:
    assert carry([GET], [bytes([byte]) for byte in response]) == carry([GET], [response])


@given(
    requests=st.lists(st.sampled_from([GET, POST, CHUNKED, REFUSED, REFUSED_POST]), min_size=1, max_size=8),
    cuts=cuts,
    data=st.data(),
)
def test_pipelined_requests_in_pieces(requests: list[bytes], cuts: list[int], data: st.DataObject) -> None:
    responses = [OK, HINTED, CHUNKS, EMPTY]
    sent = b"".join(requests)

    def serve(memory: Memory, chosen: list[bytes]) -> None:
        """Answer each request that has reached the service by then."""
        while chosen and memory.service.written:
            heads.append(without_traces(bytes(memory.service.written)))
            memory.service.written.clear()
            memory.stream.data_received(chosen.pop(0))

    forwarded = [request for request in requests if request not in (REFUSED, REFUSED_POST)]
    chosen = [data.draw(st.sampled_from(responses)) for _ in forwarded]
    results = []
    for parts in ([sent], pieces(sent, cuts)):
        memory, heads, left = Memory(), [], list(chosen)
        for part in parts:
            memory.connection.data_received(part)
            if len(parts) == 1:
                serve(memory, left)
        serve(memory, left)
        results.append((b"".join(heads), bytes(memory.client.written)))
    assert results[0] == results[1]
    assert results[0][0].count(b"X-Forwarded-For") == len(forwarded)
    assert results[0][1].count(b"X-Homeport-Error: no_route") == len(requests) - len(forwarded)


@given(junk=st.binary(max_size=200), at=st.integers(min_value=0, max_value=10_000), cuts=cuts)
def test_whatever_a_client_sends_the_service_can_read_what_it_gets(junk: bytes, at: int, cuts: list[int]) -> None:
    at %= len(CHUNKED)
    memory = Memory()
    memory.from_client(pieces(CHUNKED[:at] + junk + CHUNKED[at:], cuts))
    reader = h11.Connection(h11.SERVER)
    for event in events(reader, bytes(memory.service.written)):
        if isinstance(event, h11.Request):
            assert all(not value.startswith(b"homeport") for name, value in event.headers if name == b"cookie")
            assert [name for name, _ in event.headers].count(b"x-forwarded-for") == 1
        elif isinstance(event, h11.EndOfMessage):
            assert b"content-length" not in dict(event.headers)


@given(junk=st.binary(min_size=1, max_size=200), at=st.integers(min_value=0, max_value=10_000), cuts=cuts)
def test_whatever_a_service_sends_the_client_can_read_what_it_gets(junk: bytes, at: int, cuts: list[int]) -> None:
    at %= len(CHUNKS)
    memory = Memory()
    memory.from_client([GET])
    memory.from_service(pieces(CHUNKS[:at] + junk + CHUNKS[at:], cuts))
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "gw")]))
    reader.send(h11.EndOfMessage())
    for event in events(reader, bytes(memory.client.written)):
        headers = getattr(event, "headers", [])
        assert all(not value.startswith(b"homeport") for name, value in headers if name == b"set-cookie")


def events(reader: h11.Connection, data: bytes) -> Iterator[h11.Event]:
    """What a strict reader makes of `data`; it raises what it cannot read."""
    if not data:
        return  # to h11 that would be the end of the connection
    reader.receive_data(data)
    while (event := reader.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
        assert isinstance(event, h11.Event)
        yield event


@pytest.mark.parametrize("fields", [b"X-API-Key: hp_a\r\nAuthorization: Bearer hp_b\r\n", b"Expect: a-miracle\r\n"])
def test_a_refusal_that_is_remembered_does_not_gather_what_it_refused(fields: bytes) -> None:
    memory = Memory()
    request = b"GET /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n" + fields + b"\r\n"
    for _ in range(20):
        memory.from_client([request])
    refusal = memory.connection.requests.read(request).refusal
    assert refusal is not None
    assert len(list(traceback.walk_tb(refusal.__traceback__))) <= 3
