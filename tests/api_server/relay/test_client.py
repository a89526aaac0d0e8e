"""The relay's control API, as this side calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgpack
import pytest

from api_server.devices.interfaces import Revocation
from api_server.relay import ProxyClient
from api_server.relay.problems import error_from_answer
from common.ids import SessionId, TeamId, new_session_id
from common.secret import Secret
from common.sessions.errors import (
    InvalidCursorError,
    OverCapacityError,
    RelayUnavailableError,
    SessionNotFoundError,
    SessionStoreError,
)
from tests.api_server.relay.fake_relay import HOME, FakeRelay

pytestmark = pytest.mark.anyio


@pytest.fixture
async def relay(anyio_backend: object) -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as relay:
        yield relay


@pytest.fixture
async def client(relay: FakeRelay) -> AsyncIterator[ProxyClient]:
    async with ProxyClient(relay.url, key=relay.key) as client:
        yield client


async def test_sessions(relay: FakeRelay, client: ProxyClient) -> None:
    cam, other = relay.online("cam"), relay.online("other")
    relay.online("cam", team=TeamId("away"))
    page = await client.sessions(HOME)
    assert page.items == [cam.summary(), other.summary()]
    assert page.next is None
    assert (await client.sessions(HOME, device="id-of-cam", limit=1)).items == [cam.summary()]
    assert await client.session(HOME, cam.session_id) == cam.summary()
    assert relay.requests[0] == ("GET", "/internal/sessions?team=home&limit=100")
    await client.sessions(HOME, device="a&team=away", limit=7, cursor="c d")
    assert relay.requests[-1][1] == "/internal/sessions?team=home&limit=7&device=a%26team%3Daway&cursor=c+d"


async def test_closing_a_session(relay: FakeRelay, client: ProxyClient) -> None:
    cam = relay.online("cam")
    assert not await client.close_session(HOME, cam.session_id, epoch=cam.epoch + 1)
    assert await client.close_session(HOME, cam.session_id, epoch=cam.epoch, reason="closed_by_operator")
    assert not await client.close_session(HOME, cam.session_id)
    assert f"epoch={cam.epoch}" in relay.requests[1][1]
    assert "reason=closed_by_operator" in relay.requests[1][1]


async def test_revocations(relay: FakeRelay, client: ProxyClient) -> None:
    await client.revoke(Revocation(id="dev/1", kind="device", team=HOME, expires_at=7.0))
    await client.revoke(Revocation(id="jti", kind="credential", team=HOME, expires_at=8.0))
    assert relay.revocations == [
        ("dev/1", {"kind": "device", "team": "home", "expires_at": 7.0}),
        ("jti", {"kind": "credential", "team": "home", "expires_at": 8.0}),
    ]


async def test_readiness(relay: FakeRelay, client: ProxyClient) -> None:
    assert await client.reachable()
    relay.ready = False
    assert not await client.reachable()
    async with ProxyClient("http://127.0.0.1:1", key=None) as nobody:
        assert not await nobody.reachable()


@pytest.mark.parametrize("odd", ["", "../../healthz", "ses_", "ses_" + "x" * 32, "ses_" + "0" * 32 + "?team=away"])
async def test_an_id_that_is_none_becomes_no_path(relay: FakeRelay, client: ProxyClient, odd: str) -> None:
    with pytest.raises(SessionNotFoundError):
        await client.session(HOME, SessionId(odd))
    with pytest.raises(SessionNotFoundError):
        await client.close_session(HOME, SessionId(odd))
    assert relay.requests == []


async def test_a_session_that_is_not_there(client: ProxyClient) -> None:
    with pytest.raises(SessionNotFoundError):
        await client.session(HOME, new_session_id())


async def test_a_wrong_key(relay: FakeRelay) -> None:
    async with ProxyClient(relay.url, key=Secret("wrong")) as client:
        with pytest.raises(RelayUnavailableError, match="401 unauthenticated"):
            await client.sessions(HOME)


async def test_a_relay_that_is_away(relay: FakeRelay, client: ProxyClient) -> None:
    relay.stop()
    with pytest.raises(RelayUnavailableError, match="does not answer"):
        await client.sessions(HOME)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x93\x01\x02", msgpack.packb({"items": 5}), msgpack.packb({"items": [{}], "next": None}), b"\x80"],
)
async def test_an_answer_that_is_something_else(relay: FakeRelay, client: ProxyClient, body: bytes) -> None:
    relay.answers["/internal/sessions"] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with pytest.raises(RelayUnavailableError, match="something else"):
        await client.sessions(HOME)


async def test_an_error_that_is_written_in_json(relay: FakeRelay, client: ProxyClient) -> None:
    body = b'{"code": "invalid_cursor", "detail": "no page gave it"}'
    relay.answers["/internal/sessions"] = (
        b"HTTP/1.1 400 .\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    with pytest.raises(InvalidCursorError, match="no page gave it"):
        await client.sessions(HOME, cursor="x")


async def test_the_proxies_of_the_environment_are_for_the_world_outside(
    relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with ProxyClient(relay.url, key=relay.key) as client:
        assert (await client.sessions(HOME)).items == []


async def test_the_key_is_not_shown(relay: FakeRelay, client: ProxyClient) -> None:
    assert relay.key.reveal() not in repr(client)


async def test_a_key_reaches_the_relay_as_a_bearer_token() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, content=msgpack.packb({"items": [], "next": None}))

    for key, expected in ((Secret("s3cret"), "Bearer s3cret"), (None, None)):
        async with ProxyClient("http://relay", key=key, transport=httpx.MockTransport(answer)) as client:
            await client.sessions(HOME)
        assert seen[-1].get("Authorization") == expected
        assert seen[-1]["Accept"] == "application/msgpack"


@pytest.mark.parametrize("kind", SessionStoreError.__subclasses__())
def test_every_error_of_a_store_comes_back_as_itself(kind: type[SessionStoreError]) -> None:
    body = msgpack.packb(kind("because").problem())
    error = error_from_answer(kind.status, "application/msgpack; x=y", body, "3")
    assert type(error) is kind
    assert error.detail == "because"
    assert error.retry_after == 3.0


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_of_seconds(value: str) -> None:
    body = msgpack.packb(OverCapacityError().problem())
    assert error_from_answer(503, "application/msgpack", body, value).retry_after is None


def test_a_detail_has_a_limit() -> None:
    body = msgpack.packb(OverCapacityError("x" * 10_000).problem())
    assert len(error_from_answer(503, "application/msgpack", body).detail) == 500
