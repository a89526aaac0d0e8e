"""What is open by a route when the route changes: it ends with the route, and with the right to call it, and with
nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert

from api_server.auth.interfaces import Action, Identity, Reach
from api_server.db.engine import Kind
from api_server.devices.tables import devices
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY, HOME
from tests.api_server.gateway.stage import Client
from tests.api_server.people import PROGRAM
from tests.api_server.relay.fake_relay import ServiceSide
from tests.api_server.routing.routed import Routed, head, routed
from tests.api_server.routing.stage import route, secret
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

CAM = {"kind": "device", "device": "cam", "service": "web"}
MILL = {"kind": "device", "device": "mill", "service": "web"}

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
UPGRADED = b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: chat\r\n"


class Serving:
    """A service whose answers never end."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.sides: list[ServiceSide] = []

    async def serve(self, side: ServiceSide) -> None:
        asked = await side.read_head()
        self.heads.append(asked)
        self.sides.append(side)
        await side.send((UPGRADED if b"Upgrade: chat" in asked else STREAM) + b"first\n")
        await side.read_to_end()


@pytest.fixture
async def open_calls(
    fresh_database: FreshDatabase, signer: SessionTokenSigner
) -> AsyncIterator[tuple[Routed, Serving, list[Client]]]:
    """A stream of events and an upgraded connection by the route `cam`, and one by the route `other`."""
    serving = Serving()
    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, web=serving.serve) as here:
            here.stage.authenticator.known["hp_tagged"] = Identity(
                kind="token",
                id="tok_tagged",
                name="tagged",
                teams={HOME: frozenset({Action.GATEWAY_CALL})},
                reach=Reach(tags=frozenset({"public"})),
            )
            await secret(here.home, "key", "device:cam/web")
            await route(
                here.home,
                "cam",
                "/cam",
                target=CAM,
                tags=["public"],
                auth={"kind": "bearer", "secret": "key"},
            )
            await route(here.home, "other", "/other", target=CAM)
            assert await here.table.catch_up()
            clients = []
            for path, headers, bearer in (
                ("/cam/events", "", "Authorization: Bearer hp_tagged\r\n"),
                ("/cam/chat", UPGRADE, "Authorization: Bearer hp_tagged\r\n"),
                ("/cam/chat", UPGRADE, None),
                ("/other/events", "", None),
            ):
                client = await here.stage.connect()
                await client.send(head(path, headers, **({} if bearer is None else {"bearer": bearer})))
                assert (await client.head()).status in (101, 200)
                assert await client.read(6) == b"first\n"
                clients.append(client)
            yield here, serving, clients


async def change(here: Routed, method: str, path: str, body: Any = None) -> None:
    answer = await here.home.call(method, path, PROGRAM, **({} if body is None else {"json": body}))
    assert answer.status_code < 300, answer.text
    assert await here.table.catch_up()


async def goes_on(serving: Serving, number: int, client: Client) -> bool:
    """Whether what was opened as that number still reaches its client."""
    side = serving.sides[number]
    try:
        await side.send(b"more\n")
        return await client.read(5) == b"more\n"
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def who_goes_on(serving: Serving, clients: list[Client]) -> list[bool]:
    return [await goes_on(serving, number, client) for number, client in enumerate(clients)]


async def test_what_is_open_ends_with_its_route(open_calls: tuple[Routed, Serving, list[Client]]) -> None:
    here, serving, clients = open_calls
    await change(here, "DELETE", "/api/routes/cam")
    assert await who_goes_on(serving, clients) == [False, False, False, True]


async def test_what_is_open_ends_with_the_right_to_call_the_route(
    open_calls: tuple[Routed, Serving, list[Client]],
) -> None:
    here, serving, clients = open_calls
    await change(here, "PATCH", "/api/routes/cam", {"tags": ["internal"]})
    assert await who_goes_on(serving, clients) == [False, False, True, True]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/api/routes/cam", {"path": "/elsewhere"}),
        ("PATCH", "/api/routes/cam", {"target": MILL, "auth": {"kind": "none"}}),
        ("PATCH", "/api/routes/cam", {"tags": ["public", "more"]}),
        ("PATCH", "/api/upstream-secrets/key", {"value": "another"}),
    ],
    ids=["path", "target", "tags", "secret"],
)
async def test_any_other_change_is_for_the_next_request(
    open_calls: tuple[Routed, Serving, list[Client]], method: str, path: str, body: Any
) -> None:
    here, serving, clients = open_calls
    await change(here, method, path, body)
    assert await who_goes_on(serving, clients) == [True] * 4


async def test_g2_a_secret_that_is_replaced_is_shown_with_the_next_request_while_the_others_go_on(
    open_calls: tuple[Routed, Serving, list[Client]],
) -> None:
    here, serving, clients = open_calls
    await change(here, "PATCH", "/api/upstream-secrets/key", {"value": "another"})
    client = await here.stage.connect()
    await client.send(head("/cam/events"))
    assert (await client.head()).status == 200
    assert b"Authorization: Bearer s3cret\r\n" in serving.heads[0]
    assert b"Authorization: Bearer another\r\n" in serving.heads[-1]
    assert await who_goes_on(serving, clients) == [True] * 4


async def test_t3_what_is_open_ends_with_its_team(open_calls: tuple[Routed, Serving, list[Client]]) -> None:
    here, serving, clients = open_calls
    await here.home.team("away")
    zoe = await here.home.person("zoe", away=Role.ADMIN)
    admin = here.home.people["hp_admin-of-away"]
    await here.home.call("DELETE", f"/api/teams/away/members/{admin.id}", zoe)
    drill = {"id": "id-of-drill", "team_id": AWAY, "name": "drill", "services": []}
    row = insert(devices).values(created_at=0, created_by_kind="user", created_by=zoe.id, **drill)
    await here.home.database.write(lambda tx: tx.execute(row))
    here.stage.relay.online("drill", team=AWAY, web=serving.serve)
    await route(here.home, "theirs", "/theirs", zoe, target={"kind": "device", "device": "drill", "service": "web"})
    assert await here.table.catch_up()
    client = await here.stage.connect()
    await client.send(head("/theirs/events", bearer="Authorization: Bearer hp_stranger\r\n"))
    assert (await client.head()).status == 200
    assert await client.read(6) == b"first\n"
    # A team without devices is left; that this one's tunnel goes with it is the relay's affair.
    assert (await here.home.call("DELETE", "/api/devices/drill", zoe)).status_code == 204
    assert await here.table.catch_up()
    assert await who_goes_on(serving, [*clients, client]) == [True] * 5
    answer = await here.home.call("DELETE", "/api/teams/away", zoe)
    assert answer.status_code == 204, answer.text
    assert await here.table.catch_up()
    assert await who_goes_on(serving, [*clients, client]) == [True] * 4 + [False]
