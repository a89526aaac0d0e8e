"""A route that shows a token of a provider: the gateway adds it, and gets another, once, when the backend says 401."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from api_server.db.engine import Kind
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.gateway.stage import ok
from tests.api_server.people import PROGRAM
from tests.api_server.relay.fake_relay import ServiceSide
from tests.api_server.routing.routed import Routed, head, routed
from tests.databases.fixtures import FreshDatabase
from tests.stack.provider import TokenProvider, token_provider

pytestmark = pytest.mark.anyio

UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nno!\n"


@pytest.fixture
def provider() -> Iterator[TokenProvider]:
    with token_provider() as running:
        yield running


@pytest.fixture
async def stage(
    anyio_backend: str, fresh_database: FreshDatabase, signer: SessionTokenSigner, provider: TokenProvider
) -> AsyncIterator[Routed]:
    """A route `/cam` to a service that takes living tokens alone; a body is read first."""

    async def serve(side: ServiceSide) -> None:
        while True:
            asked = (await side.read_head()).decode("latin-1")
            if "Content-Length: 4" in asked:
                await side.read(4)
            _, _, token = asked.partition("Authorization: Bearer ")
            alive = provider.alive(token.partition("\r\n")[0])
            await side.send(ok(asked.encode()) if alive else UNAUTHORIZED)

    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, web=serve) as made:
            await ask(made, "realm", {"id": "r", "config": {"url": f"{provider.url}/token"}})
            await ask(made, "secret", {"realm": "r", "key": "k", "key_1": "v"})
            await ask(made, "routes", route())
            await made.table.catch_up()
            yield made
            await made.home.domains.broker.aclose()


def route(**changes: Any) -> dict[str, Any]:
    auth = {"kind": "bearer", "realm": "r", "key": "k", **changes}
    target = {"kind": "device", "device": "cam", "service": "web"}
    return {"name": "cam", "path": "/cam", "target": target, "auth": auth}


async def ask(made: Routed, path: str, body: dict[str, Any]) -> None:
    answer = await made.home.call("POST", f"/api/{path}", PROGRAM, json=body)
    assert answer.status_code == 201, answer.text


def shown(body: bytes) -> list[str]:
    return [line for line in body.decode("latin-1").split("\r\n") if line.startswith("Authorization")]


async def test_the_gateway_shows_the_token(stage: Routed, provider: TokenProvider) -> None:
    for _ in range(3):
        reply = await stage.get("/cam/x")
        assert reply.status == 200, reply
        assert shown(reply.body) == ["Authorization: Bearer token-1"]
    assert len(provider.calls) == 1


async def test_on_401_it_gets_another_one_once(stage: Routed, provider: TokenProvider) -> None:
    await stage.get("/cam/x")
    provider.new_token()  # somebody else has fetched one: ours is dead
    reply = await stage.get("/cam/x")
    assert (reply.status, shown(reply.body)) == (200, ["Authorization: Bearer token-3"])
    assert len(provider.calls) == 2
    assert (await stage.get("/cam/x")).status == 200
    assert len(provider.calls) == 2


async def test_a_backend_that_wants_none_of_them_makes_no_storm(stage: Routed, provider: TokenProvider) -> None:
    await stage.get("/cam/x")
    provider.worthless = True
    first, second = await stage.get("/cam/x"), await stage.get("/cam/x")
    assert (first.status, first.body) == (401, b"no!\n")  # with the second token, too: that is the backend's word
    assert second.status == 502  # and no third one is fetched right after
    assert b"credential_unavailable" in second.body
    assert len(provider.calls) == 2


async def test_a_request_with_a_body_is_not_sent_twice(stage: Routed, provider: TokenProvider) -> None:
    await stage.get("/cam/x")
    provider.new_token()
    client = await stage.stage.connect()
    await client.send(head("/cam/x", "Content-Length: 4\r\n", method="POST") + "abcd")
    assert (await client.reply()).status == 401
    await client.send(head("/cam/x", "Content-Length: 4\r\n", method="POST") + "abcd")
    await client.reply()  # perhaps while the next token is on its way
    while len(provider.calls) < 2:
        await asyncio.sleep(0.01)
    await stage.home.domains.broker.aclose()
    assert (await stage.get("/cam/x")).status == 200
    assert len(provider.calls) == 2


async def test_g2_without_a_token_nothing_is_sent(stage: Routed, provider: TokenProvider) -> None:
    provider.mode = "broken"
    reply = await stage.get("/cam/x")
    assert reply.status == 502
    assert b"credential_unavailable" in reply.body


@pytest.mark.parametrize(
    "auth", [{"key": None}, {"realm": None}, {"kind": "basic"}, {"kind": "none"}, {"kind": "api-key"}, {"secret": "s"}]
)
async def test_what_a_route_can_not_say(stage: Routed, auth: dict[str, Any]) -> None:
    answer = await stage.home.call("POST", "/api/routes", PROGRAM, json=route(**auth) | {"name": "x", "path": "/x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_who_may_not_have_the_token_may_not_send_it_anywhere(stage: Routed) -> None:
    viewer = await stage.home.person("viewer", home=Role.VIEWER)
    answer = await stage.home.call("POST", "/api/routes", viewer, json=route() | {"name": "x", "path": "/x"})
    assert answer.status_code == 403
