"""Requests by the route table: which way they go, and what the service or backend sees of them (G1, G2)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.interfaces import Action, Identity, Reach
from api_server.db.engine import Kind
from api_server.routing.tables import routes, upstream_secrets
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.backends.backend import Backend
from tests.api_server.fakes import HOME
from tests.api_server.gateway.stage import ok
from tests.api_server.people import PROGRAM
from tests.api_server.relay.fake_relay import ServiceSide
from tests.api_server.routing.routed import Routed, echo, head, routed
from tests.api_server.routing.stage import route, secret
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

TO_CAM = {"kind": "device", "device": "cam", "service": "web"}
FOR_CAM = "device:cam/web"


@pytest.fixture
async def here(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Routed]:
    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, web=echo) as stage:
            yield stage


async def publish(here: Routed, name: str = "cam", path: str = "/cam", **more: Any) -> Any:
    """A new route, known to the gateway."""
    made = await route(here.home, name, path, **{"target": TO_CAM, **more})
    assert await here.table.catch_up()
    return made


def values(lines: list[str], name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines if line.partition(":")[0].lower() == name.lower()]


@pytest.mark.parametrize(
    ("path", "stripped", "kept"),
    [
        ("/cam", "/", "/cam"),
        ("/cam/", "/", "/cam/"),
        ("/cam/a/b?c=d&e", "/a/b?c=d&e", "/cam/a/b?c=d&e"),
        ("/cam?x", "/?x", "/cam?x"),
        ("/%63am/%7Ea", "/%7Ea", "/%63am/%7Ea"),
        ("/cam/cam", "/cam", "/cam/cam"),
    ],
)
async def test_the_prefix_is_stripped_or_kept_and_the_query_stays(
    here: Routed, path: str, stripped: str, kept: str
) -> None:
    await publish(here)
    lines = await here.lines(path)
    assert lines[0] == f"GET {stripped} HTTP/1.1"
    assert values(lines, "X-Forwarded-Prefix") == ["/cam"]
    await here.home.call("PATCH", "/api/routes/cam", PROGRAM, json={"strip_prefix": False})
    await here.table.catch_up()
    lines = await here.lines(path)
    assert lines[0] == f"GET {kept} HTTP/1.1"
    assert values(lines, "X-Forwarded-Prefix") == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/cam-2", "no_route"),
        ("/ca", "no_route"),
        ("/Cam/", "no_route"),
        ("/x/cam/", "no_route"),
        ("//cam/", "bad_path"),
        ("/cam//x", "bad_path"),
        ("/x/../cam/", "bad_path"),
        ("/cam/../cam/", "bad_path"),
        ("/cam/%2e%2e/x", "bad_path"),
        ("/x/%2e%2e/cam", "bad_path"),
        ("/x%2f..%2fcam", "bad_path"),
        ("/cam%2fx", "bad_path"),
        ("/cam%5cx", "bad_path"),
        ("/cam\\x", "bad_path"),
        ("/cam/..;/x", "bad_path"),
        ("/cam;/x", "no_route"),
        ("/cam%00", "bad_path"),
        ("/cam/%", "bad_path"),
    ],
)
async def test_g1_path_tricks(here: Routed, path: str, code: str) -> None:
    await publish(here)
    reply = await here.get(path)
    assert reply.code == code
    assert here.stage.relay.opens == []


async def test_g1_the_longest_prefix_and_the_built_in_paths_first(here: Routed) -> None:
    await publish(here, "all", "/")
    await publish(here, "deep", "/a/b", strip_prefix=False)
    assert (await here.lines("/a/x"))[0] == "GET /a/x HTTP/1.1"
    assert values(await here.lines("/a/x"), "X-Forwarded-Prefix") == []
    assert (await here.lines("/a/b/c"))[0] == "GET /a/b/c HTTP/1.1"
    assert (await here.lines("/d/home/cam/web/x"))[0] == "GET /x HTTP/1.1"
    assert (await here.get("/d/home/cam/none/")).code == "service_refused"


async def test_a_page_below_a_prefix_is_not_sent_elsewhere(here: Routed) -> None:
    await publish(here)
    assert (await here.get("/cam")).status == 200  # no redirect: what is published may be no page at all
    assert (await here.get("/d/home/cam/web")).status == 308


@pytest.mark.parametrize(
    ("auth", "value", "header", "shown"),
    [
        ({"kind": "bearer"}, "t0ken", "Authorization", "Bearer t0ken"),
        ({"kind": "api-key"}, "t0ken", "X-API-Key", "t0ken"),
        ({"kind": "api-key", "header": "X-Upstream-Key"}, "t0ken", "X-Upstream-Key", "t0ken"),
        (
            {"kind": "basic", "username": "ann"},
            "t0ken",
            "Authorization",
            "Basic " + base64.b64encode(b"ann:t0ken").decode(),
        ),
        ({"kind": "basic"}, "ann:t0ken", "Authorization", "Basic " + base64.b64encode(b"ann:t0ken").decode()),
    ],
)
async def test_g2_the_upstream_credential(
    here: Routed, auth: dict[str, Any], value: str, header: str, shown: str
) -> None:
    await secret(here.home, destination=FOR_CAM, value=value)
    await publish(here, auth={**auth, "secret": "key"})
    theirs = f"{header}: theirs\r\n{header.replace('-', '_')}: theirs\r\n{header.upper()} : x\r\n"
    refused = await here.get("/cam", theirs)
    assert refused.status == 400  # a blank before the colon
    for _ in range(2):
        caller = f"{header}: theirs\r\n" if header != "Authorization" else ""
        lines = await here.lines("/cam", f"{caller}{header.replace('-', '_')}: theirs\r\nCookie: homeport_x=1; a=b\r\n")
        assert values(lines, header) == [shown]
        assert "theirs" not in "".join(lines)
        assert "hp_caller" not in "".join(lines)
        assert values(lines, "Cookie") == ["a=b"]


async def test_g2_a_trailer_does_not_stand_in_for_the_credential(here: Routed) -> None:
    """A reader that merges trailers into the head would take it for what the gateway shows."""
    await secret(here.home, destination=FOR_CAM, value="t0ken")
    await publish(here, auth={"kind": "api-key", "header": "X-Upstream-Key", "secret": "key"})
    bodies: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        received = await side.read_head()
        body = b""
        while not body.endswith(b"X-Sum: 1\r\n\r\n"):
            body += await side.read(1)
        bodies.append(body)
        await side.send(ok(received))

    here.stage.cam.services["web"] = serve
    client = await here.stage.connect()
    await client.send(
        head("/cam", "Transfer-Encoding: chunked\r\nTrailer: X-Upstream-Key, X-Sum\r\n", method="POST"),
        "2\r\nhi\r\n0\r\nX-Upstream-Key: theirs\r\nx_upstream_key: theirs\r\nX-Sum: 1\r\n\r\n",
    )
    lines = (await client.reply()).body.decode().split("\r\n")
    assert values(lines, "X-Upstream-Key") == ["t0ken"]
    assert bodies == [b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"]


async def test_g2_a_callers_own_authorization_makes_way_for_the_routes(here: Routed) -> None:
    await secret(here.home, destination=FOR_CAM, value="t0ken")
    await publish(here, auth={"kind": "bearer", "secret": "key"})
    await publish(here, "open", "/open")
    client = await here.stage.connect()
    for path, shown in (("/cam", ["Bearer t0ken"]), ("/open", ["Basic YTpi"])):
        await client.send(head(path, "X-API-Key: hp_caller\r\nAuthorization: Basic YTpi\r\n", bearer=""))
        lines = (await client.reply()).body.decode().split("\r\n")
        assert values(lines, "Authorization") == shown
        assert values(lines, "X-API-Key") == []


async def test_g2_another_value_of_the_secret_is_shown_from_then_on(here: Routed) -> None:
    await secret(here.home, destination=FOR_CAM, value="old")
    await publish(here, auth={"kind": "bearer", "secret": "key"})
    assert values(await here.lines("/cam"), "Authorization") == ["Bearer old"]
    await here.home.call("PATCH", "/api/upstream-secrets/key", PROGRAM, json={"value": "new"})
    await here.table.catch_up()
    assert values(await here.lines("/cam"), "Authorization") == ["Bearer new"]


@pytest.mark.parametrize("how", ["gone", "moved", "swapped", "broken"])
async def test_g2_without_its_credential_no_request_is_sent(here: Routed, how: str) -> None:
    """Whatever happens to the row behind the API's back."""
    kept = await secret(here.home, destination=FOR_CAM, value="t0ken")
    await secret(here.home, "other", destination=FOR_CAM, value="of another record")
    made = await publish(here, auth={"kind": "bearer", "secret": "key"})

    async def tamper(tx: AsyncConnection) -> None:
        which = upstream_secrets.c.id == kept["id"]
        match how:
            case "gone":
                await tx.execute(update(routes).values(secret_id=None))
            case "moved":
                await tx.execute(update(upstream_secrets).where(which).values(destination="https://evil.test"))
            case "swapped":
                other = await tx.execute(upstream_secrets.select().where(upstream_secrets.c.name == "other"))
                await tx.execute(update(upstream_secrets).where(which).values(value=other.one().value))
            case "broken":
                await tx.execute(update(upstream_secrets).where(which).values(version=2))
        await tx.execute(update(routes).where(routes.c.id == made["id"]).values(version=7))

    await here.home.database.write(tamper)
    here.table.all_changed()
    await here.table.catch_up()
    for _ in range(2):
        assert (await here.get("/cam")).code == "credential_unavailable"
    assert here.stage.relay.opens == []


async def test_a_backend_gets_its_host_its_path_and_its_credential(here: Routed) -> None:
    async with Backend(echo) as backend:
        await secret(here.home, destination=backend.url, value="t0ken")
        url = f"{backend.url}/base/"
        await publish(here, path="/api", target={"kind": "url", "url": url}, auth={"kind": "bearer", "secret": "key"})
        for _ in range(2):
            lines = await here.lines("/api/v1/things?q=1")
            assert lines[0] == "GET /base/v1/things?q=1 HTTP/1.1"
            assert values(lines, "Host") == [f"127.0.0.1:{backend.port}"]
            assert values(lines, "X-Forwarded-Host") == ["gw.example.org"]
            assert values(lines, "X-Forwarded-Prefix") == ["/api"]
            assert values(lines, "Authorization") == ["Bearer t0ken"]
        assert (await here.lines("/api"))[0] == "GET /base/ HTTP/1.1"
        assert (await here.lines("/api/"))[0] == "GET /base/ HTTP/1.1"


async def test_g3_a_url_that_may_be_reached_no_more_is_refused_when_used(here: Routed) -> None:
    await publish(here, target={"kind": "url", "url": "https://127.0.0.1:1/"})

    async def tamper(tx: AsyncConnection) -> None:
        await tx.execute(update(routes).values(target={"kind": "url", "url": "https://10.0.0.1/"}, version=2))

    await here.home.database.write(tamper)
    here.table.all_changed()
    await here.table.catch_up()
    assert (await here.get("/cam")).code == "target_forbidden"


async def test_a_device_that_is_gone_is_offline_and_nobody_else_takes_its_place(here: Routed) -> None:
    await publish(here)
    await here.home.call("DELETE", "/api/devices/cam", PROGRAM)
    here.stage.relay.offline(here.stage.cam)
    assert (await here.get("/cam")).code == "device_offline"


async def test_a2_the_route_of_another_team_is_answered_like_none(here: Routed) -> None:
    await publish(here)
    client = await here.stage.connect()
    await client.send(head("/cam", bearer="Authorization: Bearer hp_stranger\r\n"))
    theirs = await client.reply()
    await client.send(head("/nowhere", bearer="Authorization: Bearer hp_stranger\r\n"))
    nowhere = await client.reply()
    assert theirs.problem == nowhere.problem
    await client.send(head("/cam", bearer="Authorization: Bearer hp_reader\r\n"))
    assert (await client.reply()).code == "forbidden"
    await client.send(head("/cam", bearer=""))
    assert (await client.reply()).code == "unauthenticated"
    assert here.stage.relay.opens == []


@pytest.mark.parametrize(
    ("reach", "allowed"),
    [
        (Reach(routes=frozenset({"cam"})), True),
        (Reach(routes=frozenset({"other"})), False),
        (Reach(tags=frozenset({"video"})), True),
        (Reach(tags=frozenset({"other"})), False),
        (Reach(devices=frozenset({"cam"})), False),
        (Reach(), False),
    ],
)
async def test_t2_scopes_by_route_and_tag(here: Routed, reach: Reach, allowed: bool) -> None:
    await publish(here, tags=["video", "front"])
    call = frozenset({Action.GATEWAY_CALL})
    here.stage.authenticator.known["hp_caller"] = Identity(
        kind="token", id="tok_1", name="narrow", teams={HOME: call}, reach=reach
    )
    reply = await here.get("/cam")
    assert reply.status == (200 if allowed else 403)
    if not allowed:
        assert reply.code == "forbidden"
