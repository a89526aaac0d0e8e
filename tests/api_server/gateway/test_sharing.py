"""What is remembered of one client's requests gives another nothing but speed: no rights, no secret, no address."""

from __future__ import annotations

import contextlib
import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.connection import ClientConnection
from api_server.gateway.errors import BadRequestError
from api_server.gateway.forwarding import Client
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.memo import Memo
from api_server.gateway.requests import RequestReader
from api_server.gateway.sections import RequestFields, cut_carriers
from common.errors import HomeportError
from tests.api_server.gateway.memory import Memory, Wire
from tests.api_server.gateway.stage import CALLER

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = b"s3cr3t"


def request(token: str | bytes | None, *extra: bytes) -> bytes:
    """The same request but for who asks."""
    shown = token.encode() if isinstance(token, str) else token
    who = [] if shown is None else [b"Authorization: Bearer " + shown]
    lines = [b"GET /d/home/cam/web/x HTTP/1.1", b"Host: gw", b"User-Agent: poll/1", *who, *extra, b"", b""]
    return b"\r\n".join(lines)


def ask(memory: Memory, client: tuple[Wire, ClientConnection], received: bytes) -> tuple[int, bytes]:
    """Send a request, and let the service answer if it gets there: the status, and what the service got."""
    wire, connection = client
    wire.written.clear()
    memory.service.written.clear()
    connection.data_received(received)
    sent = bytes(memory.service.written)
    if sent:
        memory.from_service([OK])
    return int(wire.written.split(b" ", 2)[1]), sent


def test_the_same_head_with_another_token_has_the_rights_of_that_token() -> None:
    memory = Memory()
    known = memory.connect("192.0.2.1")
    others = [memory.connect(f"192.0.2.{number}") for number in range(2, 6)]
    assert ask(memory, known, request(CALLER))[0] == 200
    assert len(memory.core.known_sections) == 1
    answers = {"hp_reader": 403, "hp_stranger": 404, "hp_nobody": 401, None: 401}
    for client, (token, status) in zip(others, answers.items(), strict=True):
        assert ask(memory, client, request(token)) == (status, b"")
    assert len(memory.core.known_sections) == 1, "they all sent the same, but for the token"
    assert ask(memory, known, request(CALLER))[0] == 200


@pytest.mark.parametrize("same_connection", [True, False])
def test_a_token_that_is_revoked_is_refused_at_once(same_connection: bool) -> None:
    memory = Memory()
    client = memory.connect("192.0.2.1")
    assert [ask(memory, client, request(CALLER))[0] for _ in range(3)] == [200] * 3
    del memory.authenticator.known[CALLER]
    again = client if same_connection else memory.connect("192.0.2.1")
    assert ask(memory, again, request(CALLER)) == (401, b"")


def test_rights_that_are_taken_are_gone_at_once() -> None:
    memory = Memory()
    client = memory.connect("192.0.2.1")
    assert ask(memory, client, request(CALLER))[0] == 200
    memory.authenticator.known[CALLER] = memory.authenticator.known["hp_reader"]
    assert ask(memory, client, request(CALLER)) == (403, b"")


def test_each_client_is_named_to_the_service_by_its_own_address() -> None:
    memory = Memory()
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1"):
        _, sent = ask(memory, memory.connect(address), request(CALLER))
        assert re.findall(rb"X-Forwarded-For: (.*)\r\n", sent) == [address.encode()]
    assert len(memory.core.known_sections) == 1


def test_a_claim_of_a_trusted_proxy_is_not_taken_from_another() -> None:
    memory = Memory(limits=GatewayLimits(trusted_proxies=[ipaddress.ip_network("192.0.2.0/24")]))
    claim = request(CALLER, b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Host: public", b"X-Forwarded-Proto: https")
    proxy, stranger = memory.connect("192.0.2.1"), memory.connect("198.51.100.1")
    for _ in range(2):
        assert b"X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n" in ask(memory, proxy, claim)[1]
        _, sent = ask(memory, stranger, claim)
        assert b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: gw\r\n" in sent
        assert b"203.0.113.9" not in sent


def test_cookies_go_with_their_own_request_and_no_other() -> None:
    memory = Memory()
    first, second = memory.connect("192.0.2.1"), memory.connect("192.0.2.2")
    assert b"Cookie: a=first\r\n" in ask(memory, first, request(CALLER, b"Cookie: a=first"))[1]
    assert b"Cookie: a=second\r\n" in ask(memory, second, request(CALLER, b"Cookie: a=second"))[1]
    assert b"Cookie" not in ask(memory, memory.connect("192.0.2.3"), request(CALLER))[1]
    assert len(memory.core.known_sections) == 1


def test_each_request_has_a_trace_of_its_own() -> None:
    memory = Memory()
    client = memory.connect("192.0.2.1")
    sent = [ask(memory, client, request(CALLER))[1] for _ in range(3)]
    assert len({re.findall(rb"traceparent: (.*)\r\n", one)[0] for one in sent}) == 3


def reader(memo: Memo[RequestFields]) -> RequestReader:
    return RequestReader(Client("192.0.2.7", lambda: b"gw:80"), memo, max_target=1000, max_fields=20)


NAMES = [b"Authorization", b"authorization", b"X-API-KEY", b"Cookie", b"cOOkie", b"X_Api_Key", b"Proxy-Authorization"]
VALUES = [
    b" Bearer hp_" + SECRET,
    b"hp_" + SECRET,
    b" " + SECRET + b" ",
    b"\tBasic " + SECRET,
    b" a=" + SECRET + b"\xff",
]
HARMLESS = [b"Accept: */*", b"Connection: keep-alive", b"Connection: cookie", b"X: y", b"Content-Length: 3"]
secret_lines = st.tuples(
    st.sampled_from(NAMES), st.sampled_from([b":", b" :", b":\r\n ", b":\x00"]), st.sampled_from(VALUES)
).map(b"".join)


@given(lines=st.lists(st.one_of(st.sampled_from(HARMLESS), secret_lines), max_size=6), version=st.sampled_from(b"01"))
def test_no_credential_and_no_cookie_is_ever_remembered(lines: list[bytes], version: int) -> None:
    memo: Memo[RequestFields] = Memo()
    head = b"\r\n".join([b"GET / HTTP/1.%c" % version, b"Host: gw", *lines, b"", b""])
    one = reader(memo)
    for _ in range(2):
        with contextlib.suppress(HomeportError):
            one.read(head)
    assert SECRET not in repr(memo.items()).encode()


@given(places=st.lists(st.integers(0, 3), max_size=4))
def test_where_the_lines_stand_that_say_who_asks_does_not_matter(places: list[int]) -> None:
    carriers = [b"Authorization: Bearer hp_a", b"Cookie: a=b", b"X-API-Key: hp_a", b"cookie: c=d"]
    lines = [b"Host: gw", b"Accept: */*", b"X: y"]
    for carrier, place in zip(carriers, places, strict=False):
        lines.insert(place, carrier)
    memo: Memo[RequestFields] = Memo()
    read = reader(memo).read(b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""]))
    plain = reader(memo).read(b"GET / HTTP/1.1\r\nHost: gw\r\nAccept: */*\r\nX: y\r\n\r\n")
    assert read.fields is plain.fields
    assert (read.caller.credential is not None) == any(n < len(places) for n in (0, 2))
    kept = [carrier for carrier in (carriers[1], carriers[3]) if carriers.index(carrier) < len(places)]
    cookies = re.findall(rb"(?i)cookie: .*?(?=\r\n)", read.caller.lines)
    assert sorted(cookies) == sorted(kept)


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization : Bearer hp_a",
        b"Authorization\t: Bearer hp_a",
        b" Authorization: Bearer hp_a",
        b"Authorization: Bearer\r\n hp_a",
        b"Authorization: Bearer\r\n\thp_a",
        b"Authorization: Bearer \x00hp_a",
        b"Authorization: Bearer hp_a\nX-Forged: 1",
        b"Authorization: Bearer hp_a\rX-Forged: 1",
    ],
)
@pytest.mark.parametrize("after", [b"", b"X: y\r\n"])
def test_a_credential_that_two_could_read_apart_is_refused(line: bytes, after: bytes) -> None:
    with pytest.raises(BadRequestError):
        reader(Memo()).read(b"GET / HTTP/1.1\r\nHost: gw\r\n" + line + b"\r\n" + after + b"\r\n")


def test_a_name_that_only_contains_one_is_left_alone() -> None:
    section = b"1\r\nHost: gw\r\nX-Authorization: a\r\nCookies: b\r\nX: Cookie: c\r\n\r\n"
    assert cut_carriers(section) == (section, [])


def test_fields_are_counted_with_the_lines_that_say_who_asks() -> None:
    few, many = (b"GET / HTTP/1.1\r\nHost: gw\r\n" + b"Cookie: a=b\r\n" * n + b"\r\n" for n in (19, 20))
    one = reader(Memo())
    one.read(few)
    with pytest.raises(HomeportError, match="more than 20"):
        one.read(many)


def test_the_end_of_a_longer_section_is_not_taken_for_a_shorter_one() -> None:
    long, short = b"GET / HTTP/1.1\r\nX-A: 1\r\nHost: gw\r\n\r\n", b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n"
    one = reader(Memo())
    assert b"X-A" in one.read(long).fields.lines
    assert b"X-A" not in one.read(short).fields.lines


def test_a_long_head_is_kept_by_nobody() -> None:
    memo: Memo[RequestFields] = Memo()
    head = b"GET / HTTP/1.1\r\nHost: gw\r\nX: " + b"x" * 9000 + b"\r\n\r\n"
    one = reader(memo)
    assert one.read(head) is not one.read(head)
    assert memo.items() == []


def test_a_refusal_that_is_kept_does_not_keep_the_frames_it_was_raised_in() -> None:
    conflict = b"GET / HTTP/1.1\r\nHost: gw\r\nX-API-Key: hp_a\r\nAuthorization: Bearer hp_b\r\n\r\n"
    for head in (conflict, b"GET //x HTTP/1.1\r\nHost: gw\r\n\r\n"):
        refusal = reader(Memo()).read(head).refusal
        assert refusal is not None
        assert refusal.__traceback__ is None
        assert refusal.__context__ is None
