"""Reading heads: a connection's reader remembers the last fields, and must not mistake one request for another."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.errors import BadRequestError, BadResponseError, TargetTooLongError
from api_server.gateway.forwarding import Client
from api_server.gateway.memo import Memo
from api_server.gateway.requests import RequestReader
from api_server.gateway.responses import ResponseReader
from api_server.gateway.sections import RequestFields
from common.errors import HomeportError
from tests.api_server.gateway.memory import without_traces

CLIENT = Client("192.0.2.7", lambda: b"gw:80")
OTHER = Client("192.0.2.8", lambda: b"gw:81", [ipaddress.ip_network("192.0.2.0/24")])

LINES = [
    b"GET /d/home/cam/web/ HTTP/1.1\r\n",
    b"GET /d/home/cam/web/ HTTP/1.0\r\n",
    b"POST /d/home/cam/web/?a=b HTTP/1.1\r\n",
    b"GET http://other/ HTTP/1.1\r\n",
    b"GET /d//x HTTP/1.1\r\n",
    b"get / HTTP/1.1\r\n",
    b"GET / HTTP/1.2\r\n",
]
SECTIONS = [
    b"Host: gw\r\n\r\n",
    b"Host: gw\r\nAuthorization: Bearer hp_x\r\n\r\n",
    b"Host: gw\r\nAuthorization: Basic eDpocF94\r\nOrigin: https://evil\r\n\r\n",
    b"Host: gw\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Host: gw\r\nContent-Length: 5\r\n\r\n",
    b"Host: gw\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"Host: gw\r\nAuthorization: Bearer hp_x\r\nCookie: a=b; homeport=c\r\n\r\n",
    b"Host: gw\r\nX-API-Key: hp_x\r\nAuthorization: Bearer hp_y\r\n\r\n",
    b"Host: gw\r\nX-API-Key: hp_x\r\nAuthorization: Digest the-service's\r\nConnection: authorization\r\n\r\n",
    b"Host: gw\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
    b"Host: gw\r\nExpect: a-miracle\r\n\r\n",
    b"X: y\r\n\r\n",
    b"\r\n",
]
HEADS = [line + section for line in LINES for section in SECTIONS]


def reader(client: Client = CLIENT, memo: Memo[RequestFields] | None = None) -> RequestReader:
    return RequestReader(client, memo if memo is not None else Memo(), max_target=1000, max_fields=20)


def outcome(reader: RequestReader, head: bytes) -> Any:
    """What it makes of a head."""
    try:
        read = reader.read(head)
    except HomeportError as exc:
        return type(exc), exc.detail
    caller = read.caller
    credential = caller.credential
    shown = (credential.credential.reveal(), credential.headers) if credential is not None else None
    refusal = (type(read.refusal), read.refusal.detail) if read.refusal is not None else None
    sent = without_traces(read.for_service(b"/x", b"/p"))
    return read._replace(caller=caller._replace(credential=None, refusal=None), refusal=None), shown, refusal, sent


@given(heads=st.lists(st.tuples(st.sampled_from(HEADS), st.sampled_from([CLIENT, OTHER])), max_size=16))
def test_what_came_before_does_not_change_what_a_request_means(heads: list[tuple[bytes, Client]]) -> None:
    memo: Memo[RequestFields] = Memo()
    readers = {client: reader(client, memo) for client in (CLIENT, OTHER)}
    assert [outcome(readers[client], head) for head, client in heads] == [
        outcome(reader(client), head) for head, client in heads
    ]


RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"nonsense\r\n\r\n",
]


@given(heads=st.lists(st.sampled_from(RESPONSES), max_size=12))
def test_what_came_before_does_not_change_what_a_response_means(heads: list[bytes]) -> None:
    def read(reader: ResponseReader, head: bytes) -> Any:
        try:
            return reader.read(head)
        except BadResponseError as exc:
            return exc.detail

    one = ResponseReader(Memo(), max_fields=20)
    assert [read(one, head) for head in heads] == [read(ResponseReader(Memo(), max_fields=20), head) for head in heads]


@pytest.mark.parametrize(
    "start", [b"\x16\x03\x01", b"get", b" GET", b"GET / HTTP/1.1\r\nA: b\n\n", b"GET /\r\n", b"A\r\r"]
)
def test_the_start_of_what_will_never_be_a_head(start: bytes) -> None:
    with pytest.raises(BadRequestError):
        reader().check_start(start)


@pytest.mark.parametrize(
    "start", [b"G", b"GET /x", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: gw\r\n", b"GET / HTTP/1.1\r\nHost"]
)
def test_the_start_of_what_may_be_one(start: bytes) -> None:
    reader().check_start(start)


def test_a_target_without_an_end() -> None:
    with pytest.raises(TargetTooLongError):
        reader().check_start(b"GET /" + b"x" * 2000)


@given(head=st.binary(max_size=300))
def test_whatever_is_read_it_is_read_or_refused(head: bytes) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: gw\r\n"):
        outcome(reader(), start + head + b"\r\n\r\n")
