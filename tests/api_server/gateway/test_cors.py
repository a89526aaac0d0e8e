"""CORS of a route: leave is given without a token, answers can be read by the pages that may, and acts stay theirs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from api_server.gateway import Route, RoutedTarget, Router
from api_server.gateway.cors import CorsPolicy, Preflight, with_cors
from api_server.gateway.device_streams import DeviceStreams
from api_server.relay import ServiceDialer
from common.ids import ServiceName
from tests.api_server.gateway.stage import BEARER, Stage, answering, ok
from tests.api_server.relay.fake_relay import HOME, ServiceSide

APP = "https://app.example.org"
EVIL = "https://evil.example.org"
BASIC = "Authorization: Basic eDpocF9jYWxsZXI=\r\n"  # x:hp_caller

POLICY = CorsPolicy(
    origins=(APP, "http://localhost:5173"),
    methods=("GET", "PUT"),
    headers=("Authorization", "X-Trace"),
    exposed_headers=("ETag",),
    max_age=60,
)
TRUSTING = CorsPolicy(origins=(APP,), methods=("GET", "PUT"), credentials=True)
OPEN = CorsPolicy(origins=("*",), methods=("*",), headers=("*",))


def routed(cors: CorsPolicy) -> Callable[[ServiceDialer], Router]:
    """Everything goes to the device `cam`, by a route with a policy."""

    class Everything:
        def __init__(self, dialer: ServiceDialer) -> None:
            self._target = RoutedTarget(
                team=HOME,
                name="api",
                route_id="rte_0",
                tags=frozenset(),
                prefix=b"",
                streams=DeviceStreams(dialer, HOME, "cam", ServiceName("web")),
                cors=cors,
            )

        def route(self, host: bytes, path: bytes) -> Route | None:
            return Route(self._target, path)

    return Everything


def head(method: str, *fields: str, credential: str = BEARER) -> str:
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"{method} /a HTTP/1.1\r\nHost: gw\r\n{credential}{lines}\r\n"


def leave(origin: str, method: str, *headers: str) -> str:
    asked = [f"Access-Control-Request-Headers: {', '.join(headers)}"] if headers else []
    return head("OPTIONS", f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *asked, credential="")


@pytest.mark.anyio
class TestPreflight:
    async def test_leave_is_given_without_a_token_and_without_the_service(self) -> None:
        async with Stage(router=routed(POLICY), web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(leave(APP, "PUT", "authorization", "x-trace", "content-type") * 2)
            for _ in range(2):
                reply = await client.reply()
                assert reply.status == 204
                assert reply["Access-Control-Allow-Origin"] == APP
                assert reply["Access-Control-Allow-Methods"] == "GET, PUT"
                assert reply["Access-Control-Allow-Headers"] == "Authorization, X-Trace"
                assert reply["Access-Control-Max-Age"] == "60"
                assert reply["Access-Control-Allow-Credentials"] is None
                assert ", ".join(reply.values("Vary")).startswith("Origin")
            assert stage.relay.opens == []

    @pytest.mark.parametrize(
        "asked",
        [
            leave(EVIL, "GET"),
            leave("null", "GET"),
            leave("http://app.example.org", "GET"),
            leave(f"{APP}:8443", "GET"),
            leave(f"{APP}.evil.org", "GET"),
            leave(APP, "DELETE"),
            leave(APP, "PUT", "authorization", "x-other"),
        ],
    )
    async def test_leave_that_is_not_given(self, asked: str) -> None:
        async with Stage(router=routed(POLICY), web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(asked)
            reply = await client.reply()
            assert (reply.status, reply.code) == (403, "cors_refused")
            assert reply["Access-Control-Allow-Methods"] is None
            assert stage.relay.opens == []

    async def test_any_origin(self) -> None:
        async with Stage(router=routed(OPEN), web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(leave(EVIL, "PATCH", "x-whatever"))
            reply = await client.reply()
            assert reply["Access-Control-Allow-Origin"] == EVIL
            assert reply["Access-Control-Allow-Methods"] == "PATCH"
            assert reply["Access-Control-Allow-Headers"] == "x-whatever"
            assert reply["Access-Control-Allow-Credentials"] is None

    @pytest.mark.parametrize(
        "request_",
        [
            head("OPTIONS", f"Origin: {APP}", credential=""),
            head("OPTIONS", "Access-Control-Request-Method: PUT", credential=""),
            head("GET", f"Origin: {APP}", "Access-Control-Request-Method: PUT", credential=""),
            head(
                "OPTIONS",
                f"Origin: {APP}",
                "Access-Control-Request-Method: PUT",
                "Access-Control-Request-Method: GET",
                credential="",
            ),
        ],
    )
    async def test_what_is_no_preflight_needs_a_token(self, request_: str) -> None:
        async with Stage(router=routed(POLICY), web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(request_)
            assert (await client.reply()).status == 401

    async def test_a_service_without_a_route_says_so_itself(self) -> None:
        async with Stage(web=answering(ok(headers=f"Access-Control-Allow-Origin: {EVIL}\r\n"))) as stage:
            client = await stage.connect()
            asked = head("OPTIONS", f"Origin: {EVIL}", "Access-Control-Request-Method: PUT")
            await client.send(asked.replace("/a", "/d/home/cam/web/"))
            assert (await client.reply())["Access-Control-Allow-Origin"] == EVIL


@pytest.mark.anyio
class TestRequests:
    async def test_what_the_route_says_stands_in_the_place_of_what_the_service_says(self) -> None:
        said = f"Access-Control-Allow-Origin: {EVIL}\r\naccess-control-allow-credentials: true\r\nETag: x\r\n"
        async with Stage(router=routed(POLICY), web=answering(ok(headers=said))) as stage:
            client = await stage.connect()
            for origin, allowed in ((APP, APP), (EVIL, None), ("http://localhost:5173", "http://localhost:5173")):
                await client.send(head("GET", f"Origin: {origin}"))
                reply = await client.reply()
                assert (reply.status, reply.body, reply["ETag"]) == (200, b"hello", "x")
                assert reply["Access-Control-Allow-Origin"] == allowed
                assert reply["Access-Control-Allow-Credentials"] is None
                assert reply["Access-Control-Expose-Headers"] == ("ETag" if allowed else None)
                assert reply["Vary"] == "Origin"
            await client.send(head("GET"))
            reply = await client.reply()
            assert (reply["Access-Control-Allow-Origin"], reply["Vary"]) == (None, "Origin")

    async def test_a_page_can_read_why_it_is_refused(self) -> None:
        async with Stage(router=routed(POLICY), web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(head("GET", f"Origin: {APP}", credential=""))
            reply = await client.reply()
            assert (reply.status, reply["Access-Control-Allow-Origin"]) == (401, APP)

    async def test_what_one_client_is_told_is_not_told_to_another(self) -> None:
        """Response heads are remembered; what is added for an origin is not."""
        async with Stage(router=routed(POLICY), web=answering(ok(headers="Date: now\r\n"))) as stage:
            for origin in (APP, EVIL, APP):
                client = await stage.connect()
                await client.send(head("GET", f"Origin: {origin}"))
                assert (await client.reply())["Access-Control-Allow-Origin"] == (None if origin == EVIL else APP)

    @pytest.mark.parametrize(
        ("cors", "origin", "status"),
        [(TRUSTING, APP, 200), (TRUSTING, EVIL, 403), (POLICY, APP, 403), (OPEN, APP, 403)],
        ids=["trusted", "another", "without credentials", "any origin"],
    )
    async def test_only_pages_that_are_trusted_act_with_what_a_browser_adds(
        self, cors: CorsPolicy, origin: str, status: int
    ) -> None:
        async def serve(side: ServiceSide) -> None:
            await side.read_head()
            await side.send(ok())

        async with Stage(router=routed(cors), web=serve) as stage:
            client = await stage.connect()
            await client.send(
                head("PUT", f"Origin: {origin}", "Sec-Fetch-Site: cross-site", "Content-Length: 0", credential=BASIC)
            )
            reply = await client.reply()
            assert reply.status == status
            if status == 403:
                assert reply.code == "cross_site_request"
            else:
                assert reply["Access-Control-Allow-Credentials"] == "true"


class TestPolicies:
    @pytest.mark.parametrize(
        "bad",
        [
            {"origins": []},
            {"origins": ["app.example.org"]},
            {"origins": ["https://app.example.org/"]},
            {"origins": ["https://App.example.org"]},
            {"origins": ["https://app.example.org:443"]},
            {"origins": ["https://*.example.org"]},
            {"origins": ["null"]},
            {"origins": ["ftp://app.example.org"]},
            {"origins": ["https://app.example.org\r\nX: y"]},
            {"origins": ["*"], "credentials": True},
            {"origins": [APP], "credentials": True, "headers": ["*"]},
            {"origins": [APP], "credentials": True, "methods": ["*"]},
            {"origins": [APP], "methods": ["get"]},
            {"origins": [APP], "methods": ["GET, PUT"]},
            {"origins": [APP], "headers": ["X-A\r\nX-B"]},
            {"origins": [APP], "exposed_headers": ["*"]},
            {"origins": [APP], "max_age": -1},
            {"origins": [APP], "max_age": 100_000},
            {"origins": [APP], "unknown": 1},
        ],
    )
    def test_what_makes_no_sense_is_refused_when_it_is_saved(self, bad: dict[str, object]) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, CorsPolicy)

    def test_simple_methods_need_no_leave_of_their_own(self) -> None:
        policy = CorsPolicy(origins=(APP,), methods=("PUT",), headers=("Authorization",))
        assert policy.answer(Preflight(APP, "GET", ("authorization",))) is not None
        assert policy.answer(Preflight(APP, "DELETE", ())) is None

    def test_other_fields_stay(self) -> None:
        lines = b"HTTP/1.1 200 OK\r\nAccess-Control-Max-Age: 5\r\nX-Access-Control-Allow-Origin: a\r\nServer: b\r\n"
        kept = b"HTTP/1.1 200 OK\r\nX-Access-Control-Allow-Origin: a\r\nServer: b\r\n"
        assert with_cors(lines, b"") == kept
