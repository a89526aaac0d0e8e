"""The request inspector: what went to a route that asks for it, without what is secret, and once more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from api_server.audit.interfaces import AuditLog
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action, Identity, Reach
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.domains import Domains
from api_server.gateway.inspection import Recording
from api_server.http.routes import Caller, ListQuery
from api_server.inspector.endpoints import InspectedPath, InspectorEndpoints
from api_server.inspector.recorder import RequestRecorder
from api_server.limits.limiter import Limiter
from api_server.limits.metrics import LimitMetrics
from api_server.limits.records import Defaults, Limits, Rate
from api_server.rest import Endpoints
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.backends.backend import Backend
from tests.api_server.fakes import HOME, FakeClock
from tests.api_server.gateway.stage import BEARER, Client
from tests.api_server.people import PROGRAM, Person
from tests.api_server.relay.fake_relay import ServiceSide
from tests.api_server.routing.routed import Routed, routed
from tests.api_server.routing.stage import route, secret
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

TO_CAM = {"kind": "device", "device": "cam", "service": "web"}
PROCESS = "api-1:4711"


@dataclass
class Inspected:
    """A gateway with one inspected route, and the API that shows it."""

    here: Routed
    recorder: RequestRecorder
    endpoints: InspectorEndpoints
    heads: list[bytes]
    bodies: list[bytes]
    client: Client
    limiter: Limiter

    async def send(self, method: str, path: str, headers: str = "", body: str = "") -> Any:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        await self.client.send(f"{method} {path} HTTP/1.1\r\nHost: gw\r\n{BEARER}{headers}{length}\r\n{body}")
        return await self.client.reply(head_only=method == "HEAD")

    async def api(self, method: str, path: str, who: Person | None = PROGRAM, **options: Any) -> Any:
        params = {"team": HOME, **options.pop("params", {})}
        return await self.here.home.call(method, f"/api/routes/cam/requests{path}", who, params=params, **options)

    async def listed(self, **params: Any) -> list[dict[str, Any]]:
        answer = await self.api("GET", "", params=params)
        assert answer.status_code == 200, answer.text
        assert answer.json()["process"] == PROCESS
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def newest(self) -> dict[str, Any]:
        answer = await self.api("GET", "/" + (await self.listed())[0]["id"])
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()["request"]
        return shown


class Later:
    """The gateway, which is there later."""

    def __init__(self) -> None:
        self.here: Routed | None = None

    async def replay(self, identity: Identity, **asked: Any) -> Recording:
        assert self.here is not None
        return await self.here.stage.gateway.replay(identity, **asked)


@pytest.fixture
async def inspected(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Inspected]:
    heads: list[bytes] = []
    bodies: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        while True:
            head = await side.read_head()
            heads.append(head)
            lower = head.lower()
            if b"transfer-encoding: chunked" in lower:
                bodies.append(await side.reader.readuntil(b"0\r\n\r\n"))
            elif b"content-length: " in lower:
                bodies.append(await side.read(int(lower.partition(b"content-length: ")[2].split(b"\r\n")[0])))
            if b"upgrade: websocket" in lower:
                await side.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes")
                await side.read_to_end()
            elif head.startswith(b"GET /chunked "):
                await side.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                )
            elif head.startswith(b"GET /bad "):
                await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello")
            elif head.startswith(b"GET /cut "):
                await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
                return
            else:
                body = b'{"id": 7, "access_token": "s3cret"}'
                fields = b"Content-Type: application/json\r\nSet-Cookie: id=s3cret\r\nX-Kind: thing\r\n"
                await side.send(b"HTTP/1.1 201 Created\r\n%bContent-Length: %d\r\n\r\n" % (fields, len(body)) + body)

    clock, later = FakeClock(), Later()
    limiter = Limiter(clock, LimitMetrics(CollectorRegistry()))
    recorder = RequestRecorder(clock, max_requests=5, max_body=1000)
    made: list[InspectorEndpoints] = []

    def more(domains: Domains, database: Database, audit: AuditLog) -> Endpoints:
        made.append(
            InspectorEndpoints(recorder, domains.routes, later, database=database, audit=audit, process=PROCESS)
        )
        return made[0]

    with fresh_database(Kind.SQLITE) as url:
        async with routed(url, signer, more=more, recorder=recorder, limiter=limiter, web=serve) as here:
            later.here = here
            await route(here.home, "cam", "/cam", target=TO_CAM, inspect=True)
            assert await here.table.catch_up()
            yield Inspected(here, recorder, made[0], heads, bodies, await here.stage.connect(), limiter)


class TestWhatIsKept:
    async def test_a_request_and_its_response(self, inspected: Inspected) -> None:
        reply = await inspected.send("POST", "/cam/a?b=c", "Content-Type: text/plain\r\nX-A: b\r\n", "hello")
        assert reply.status == 201
        [listed] = await inspected.listed()
        assert (listed["method"], listed["target"], listed["status"], listed["error"]) == (
            "POST",
            "/cam/a?b=c",
            201,
            None,
        )
        assert (listed["caller"], listed["replayable"]) == ("token:caller", True)
        shown = await inspected.newest()
        assert dict(shown["request"]["headers"]) == {
            "Host": "gw",
            "Content-Type": "text/plain",
            "X-A": "b",
            "Content-Length": "5",
        }
        assert shown["request"]["body"] == {"size": 5, "truncated": False, "text": "hello", "base64": None}
        assert shown["response"]["status"] == 201
        assert ["X-Kind", "thing"] in shown["response"]["headers"]

    async def test_chunks_are_taken_off(self, inspected: Inspected) -> None:
        head = f"POST /cam/up HTTP/1.1\r\nHost: gw\r\n{BEARER}Transfer-Encoding: chunked\r\n\r\n"
        await inspected.client.send(head, "3\r\nhel\r\n", "2\r\nlo\r\n0\r\n\r\n")
        assert (await inspected.client.reply()).status == 201
        assert (await inspected.newest())["request"]["body"]["text"] == "hello"
        await inspected.send("GET", "/cam/chunked")
        assert (await inspected.newest())["response"]["body"] == {
            "size": 5,
            "truncated": False,
            "text": "abcde",
            "base64": None,
        }

    async def test_only_the_beginning_of_a_large_body(self, inspected: Inspected) -> None:
        await inspected.send("PUT", "/cam/up", body="x" * 5000)
        shown = await inspected.newest()
        assert (shown["request"]["body"]["size"], shown["request"]["body"]["truncated"]) == (5000, True)
        assert len(shown["request"]["body"]["text"]) == 1000
        assert shown["replayable"] is False

    async def test_what_is_no_text_is_base64(self, inspected: Inspected) -> None:
        await inspected.send("PUT", "/cam/up", body="\x00\xff")
        body = (await inspected.newest())["request"]["body"]
        assert (body["text"], body["base64"]) == (None, "AP8=")

    async def test_an_upgrade_without_what_follows(self, inspected: Inspected) -> None:
        client = await inspected.here.stage.connect()
        fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        await client.send(f"GET /cam/socket HTTP/1.1\r\nHost: gw\r\n{BEARER}{fields}\r\n")
        assert (await client.head()).status == 101
        shown = await inspected.newest()
        assert (shown["status"], shown["response"]["body"]["size"], shown["replayable"]) == (101, 0, False)

    @pytest.mark.parametrize(("path", "status", "code"), [("/cam/bad", 502, "bad_response"), ("/cam/cut", 200, "cut")])
    async def test_how_it_failed(self, inspected: Inspected, path: str, status: int, code: str) -> None:
        await inspected.client.send(f"GET {path} HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n")
        await inspected.client.read_to_end() if code != "cut" else await inspected.client.was_cut()
        [listed] = await inspected.listed()
        assert (listed["status"], listed["error"]) == (status, code)

    async def test_the_last_ones_page_by_page(self, inspected: Inspected) -> None:
        for number in range(7):
            await inspected.send("GET", f"/cam/{number}")
        assert [each["target"] for each in await inspected.listed()] == [f"/cam/{number}" for number in (6, 5, 4, 3, 2)]
        first = (await inspected.api("GET", "", params={"limit": 2})).json()
        second = (await inspected.api("GET", "", params={"limit": 2, "cursor": first["next"]})).json()
        assert [each["target"] for each in second["items"]] == ["/cam/4", "/cam/3"]

    async def test_nothing_of_other_routes_or_devices(self, inspected: Inspected) -> None:
        await route(inspected.here.home, "quiet", "/quiet", target=TO_CAM)
        assert await inspected.here.table.catch_up()
        await inspected.send("GET", "/quiet/a")
        await inspected.send("GET", "/d/home/cam/web/a")
        assert await inspected.listed() == []
        assert inspected.recorder.bytes_kept == 0

    async def test_it_goes_with_age_and_when_it_is_switched_off(self, inspected: Inspected) -> None:
        await inspected.send("GET", "/cam/a")
        clock = inspected.recorder.clock
        assert isinstance(clock, FakeClock)
        clock.advance(3000)
        await inspected.send("GET", "/cam/b")
        clock.advance(700)
        assert [each["target"] for each in await inspected.listed()] == ["/cam/b"]
        changed = await inspected.here.home.call(
            "PATCH", "/api/routes/cam", PROGRAM, params={"team": HOME}, json={"inspect": False}
        )
        assert changed.status_code == 200, changed.text
        assert await inspected.listed() == []
        assert inspected.recorder.bytes_kept == 0


class TestSecrets:
    async def test_none_is_shown(self, inspected: Inspected) -> None:
        fields = "Cookie: id=s3cret\r\nX-Api-Token: s3cret\r\nX-Session-Id: s3cret\r\nReferer: https://a.test/?x=1\r\n"
        body = json.dumps({"user": "ann", "password": "s3cret", "nested": {"api_key": "s3cret"}})
        await inspected.send("POST", "/cam/a?token=s3cret&page=2", fields + "Content-Type: application/json\r\n", body)
        shown = await inspected.newest()
        everything = json.dumps([shown, await inspected.listed()])
        assert "s3cret" not in everything
        assert "hp_caller" not in everything
        assert shown["target"] == "/cam/a?token=***&page=2"
        assert json.loads(shown["request"]["body"]["text"]) == {
            "user": "ann",
            "password": "***",
            "nested": {"api_key": "***"},
        }
        assert json.loads(shown["response"]["body"]["text"]) == {"id": 7, "access_token": "***"}
        assert ["Set-Cookie", "***"] in shown["response"]["headers"]

    async def test_who_asked_is_not_even_kept(self, inspected: Inspected) -> None:
        await inspected.send("GET", "/cam/a", "Cookie: id=s3cret\r\nX-Api-Token: s3cret\r\n")
        head, _ = inspected.recorder.to_repeat((await route_id(inspected)), (await inspected.listed())[0]["id"])
        assert b"s3cret" not in head
        assert b"hp_caller" not in head


async def route_id(inspected: Inspected) -> str:
    answer = await inspected.here.home.call("GET", "/api/routes/cam", PROGRAM, params={"team": HOME})
    return str(answer.json()["id"])


class TestReplay:
    async def test_the_service_gets_it_once_more(self, inspected: Inspected) -> None:
        await inspected.send("POST", "/cam/a?b=c", "X-A: b\r\nCookie: id=s3cret\r\n", "hello")
        [first] = await inspected.listed()
        answer = await inspected.api("POST", f"/{first['id']}/replay")
        assert answer.status_code == 200, answer.text
        again = answer.json()["request"]
        assert (again["status"], again["replay_of"], again["error"]) == (201, first["id"], None)
        assert again["caller"] == f"token:{PROGRAM.id}"
        before, after = (head.decode().split("\r\n") for head in inspected.heads)
        assert after[0] == before[0] == "POST /a?b=c HTTP/1.1"
        assert "X-A: b" in after
        assert "s3cret" not in "".join(after)
        assert inspected.bodies == [b"hello", b"hello"]
        assert [each["id"] for each in await inspected.listed()] == [again["id"], first["id"]]
        line = inspected.here.home.audit.lines[-1]
        assert (line.action, (line.target_kind, line.target_id), line.after) == (
            "route.replayed",
            ("route", await route_id(inspected)),
            {"request": first["id"]},
        )

    async def test_chunks_go_as_one_body(self, inspected: Inspected) -> None:
        head = f"POST /cam/up HTTP/1.1\r\nHost: gw\r\n{BEARER}Transfer-Encoding: chunked\r\n\r\n"
        await inspected.client.send(head, "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
        assert (await inspected.client.reply()).status == 201
        answer = await inspected.api("POST", f"/{(await inspected.listed())[0]['id']}/replay")
        assert answer.json()["request"]["status"] == 201
        assert inspected.bodies[-1] == b"hello"

    @pytest.mark.parametrize(
        ("path", "status", "code"), [("/cam/bad", 502, "bad_response"), ("/cam/cut", 502, "stream_reset")]
    )
    async def test_it_may_fail_as_any_other(self, inspected: Inspected, path: str, status: int, code: str) -> None:
        await inspected.client.send(f"GET {path} HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n")
        await inspected.client.was_cut()
        answer = await inspected.api("POST", f"/{(await inspected.listed())[0]['id']}/replay")
        assert answer.status_code == 200
        again = answer.json()["request"]
        assert (again["status"], again["error"]) == (status, code)

    async def test_t4_it_counts_against_the_limits_of_who_sends_it(self, inspected: Inspected) -> None:
        await inspected.send("GET", "/cam/a")
        request = (await inspected.listed())[0]["id"]
        token = Limits(requests=Rate(quota=2, window=60), streams=1, opens_per_second=1)
        inspected.limiter.apply(Defaults(token=token), {})
        replayed = [await inspected.api("POST", f"/{request}/replay") for _ in range(3)]
        # A stream is opened for each.
        assert [each.json()["request"]["error"] for each in replayed[:2]] == [None, "too_many_opens"]
        assert (replayed[2].status_code, replayed[2].json()["code"]) == (429, "rate_limited")
        (meter,) = inspected.limiter.subjects(team=HOME, token=PROGRAM.id, route=None, address="", device=None)
        assert meter.streams == 0

    async def test_what_was_not_kept_whole_is_not_sent(self, inspected: Inspected) -> None:
        await inspected.send("PUT", "/cam/up", body="x" * 5000)
        answer = await inspected.api("POST", f"/{(await inspected.listed())[0]['id']}/replay")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_replayable")
        assert len(inspected.heads) == 1

    async def test_a_path_that_leads_elsewhere_now_is_not_followed(self, inspected: Inspected) -> None:
        await inspected.send("GET", "/cam/a")
        changed = await inspected.here.home.call(
            "PATCH", "/api/routes/cam", PROGRAM, params={"team": HOME}, json={"path": "/moved"}
        )
        assert changed.status_code == 200, changed.text
        assert await inspected.here.table.catch_up()
        answer = await inspected.api("POST", f"/{(await inspected.listed())[0]['id']}/replay")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_route")

    async def test_g2_a_backend_gets_the_routes_credential(self, inspected: Inspected) -> None:
        heads: list[bytes] = []

        async def serve(side: ServiceSide) -> None:
            while True:
                heads.append(await side.read_head())
                await side.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        async with Backend(serve) as backend:
            await secret(inspected.here.home, "key", backend.url, "s3cret")
            await inspected.here.home.call(
                "PATCH",
                "/api/routes/cam",
                PROGRAM,
                params={"team": HOME},
                json={"target": {"kind": "url", "url": backend.url}, "auth": {"kind": "bearer", "secret": "key"}},
            )
            assert await inspected.here.table.catch_up()
            await inspected.send("GET", "/cam/a")
            answer = await inspected.api("POST", f"/{(await inspected.listed())[0]['id']}/replay")
            assert answer.json()["request"]["status"] == 204, answer.text
            assert all(b"Authorization: Bearer s3cret\r\n" in head for head in heads)
            assert len(heads) == 2
            assert "s3cret" not in answer.text


class TestRights:
    async def test_who_may_call_the_route_and_nobody_else(self, inspected: Inspected) -> None:
        await inspected.send("GET", "/cam/a")
        request = (await inspected.listed())[0]["id"]
        home = inspected.here.home
        developer = await home.person("dev", home=Role.DEVELOPER)
        viewer = await home.person("eve", home=Role.VIEWER)
        stranger = await home.person("mallory")
        for who, status in ((developer, 200), (viewer, 403), (stranger, 404), (None, 401)):
            for method, path in (("GET", ""), ("GET", f"/{request}"), ("POST", f"/{request}/replay")):
                assert (await inspected.api(method, path, who)).status_code == status, (who, path)

    async def test_a_token_for_other_routes_sees_nothing(self, inspected: Inspected) -> None:
        def caller(reach: Reach | None) -> Caller:
            actions = frozenset({Action.GATEWAY_CALL, Action.ROUTES_READ})
            identity = Identity(kind="token", id="tok_1", name="t", teams={TeamId("home"): actions}, reach=reach)
            return Caller(identity=identity, teams=frozenset({TeamId("home")}), address="192.0.2.1", request_id="r")

        path, query = InspectedPath(id="cam"), ListQuery()
        for reach in (Reach(routes=frozenset({"other"})), Reach(devices=frozenset({"cam"})), Reach()):
            with pytest.raises(ForbiddenError):
                await inspected.endpoints.list_requests(caller(reach), path, query)
        for good in (None, Reach(routes=frozenset({"cam"}))):
            assert (await inspected.endpoints.list_requests(caller(good), path, query)).items == []

    async def test_what_is_not_there_is_404(self, inspected: Inspected) -> None:
        answer = await inspected.api("GET", "/rqs_0")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_request")
        answer = await inspected.here.home.call("GET", "/api/routes/none/requests", PROGRAM, params={"team": HOME})
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
