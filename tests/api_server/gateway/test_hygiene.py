"""What goes on and what does not: credentials, cookies, the fields of one connection, and who may say where from (G2);
and which paths are refused before anybody looks where they lead (G1).
"""

from __future__ import annotations

import ipaddress
import re

import pytest

from api_server.gateway import GatewayLimits
from tests.api_server.gateway.stage import Stage, answering, ok
from tests.api_server.relay.fake_relay import ServiceSide

pytestmark = pytest.mark.anyio

TOKEN = "Authorization: Bearer hp_caller"


class Echo:
    """A service that answers with the head that it got."""

    async def __call__(self, side: ServiceSide) -> None:
        while True:
            await side.send(ok(await side.read_head()))


async def arrives(
    *fields: str, credential: str | None = TOKEN, host: str = "gw", limits: GatewayLimits | None = None
) -> list[str]:
    """The field lines that a service gets of a request with these."""
    async with Stage(web=Echo(), limits=limits) as stage:
        client = await stage.connect()
        lines = [f"Host: {host}", *([credential] if credential is not None else []), *fields]
        await client.send("GET /d/home/cam/web/ HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n")
        reply = await client.reply()
        assert reply.status == 200, reply
        return reply.body.decode("latin-1").split("\r\n")[1:-2]


def values(lines: list[str], name: str) -> list[str]:
    return [line.partition(": ")[2] for line in lines if line.partition(":")[0].lower() == name.lower()]


class TestCredentials:
    @pytest.mark.parametrize(
        "credential",
        [
            "Authorization: Bearer hp_caller",
            "authorization: bearer hp_caller",
            "X-API-Key: hp_caller",
            "x-api-KEY:hp_caller",
            "Authorization: Basic eDpocF9jYWxsZXI=",
            "Authorization: Bearer hp_caller\r\nX-API-Key: hp_caller",
        ],
    )
    async def test_what_authenticated_does_not_go_on(self, credential: str) -> None:
        lines = await arrives(credential=credential)
        assert values(lines, "Authorization") == []
        assert values(lines, "X-API-Key") == []
        assert "hp_caller" not in "".join(lines)

    async def test_a_credential_for_the_service_goes_on(self) -> None:
        lines = await arrives("Authorization: Bearer services-own", credential="X-API-Key: hp_caller")
        assert values(lines, "Authorization") == ["Bearer services-own"]
        lines = await arrives("X-API-Key: services-own")
        assert values(lines, "X-API-Key") == ["services-own"]
        assert values(lines, "Authorization") == []

    async def test_a_proxys_credential_does_not_go_on(self) -> None:
        assert values(await arrives("Proxy-Authorization: Basic eDp5"), "Proxy-Authorization") == []


class TestCookies:
    @pytest.mark.parametrize(
        ("sent", "goes_on"),
        [
            ("a=1", ["a=1"]),
            ("a=1; homeport_session=x; b=2", ["a=1; b=2"]),
            ("__Host-homeport_session=x", []),
            ("__Host-homeport=x; c=3", ["c=3"]),
            ("__Secure-homeport_x=y", []),
            ("HOMEPORT=x; a=1", ["a=1"]),
            ("a=1;homeport=x", ["a=1"]),
            ("=homeport=x; a=1", ["a=1"]),
            ("my-homeport=x", ["my-homeport=x"]),
            ("a=homeport", ["a=homeport"]),
        ],
    )
    async def test_those_of_homeport_do_not_go_on(self, sent: str, goes_on: list[str]) -> None:
        assert values(await arrives(f"Cookie: {sent}"), "Cookie") == goes_on

    async def test_every_cookie_field_is_looked_at(self) -> None:
        lines = await arrives("Cookie: a=1; homeport=x", "cookie: homeport_y=2", "COOKIE: b=2")
        assert values(lines, "Cookie") == ["a=1", "b=2"]

    @pytest.mark.parametrize(
        ("sent", "goes_on"),
        [
            ("a=1; Path=/", ["a=1; Path=/"]),
            ("homeport_session=x", []),
            ("__Host-homeport_session=x; Secure; Path=/", []),
            ("__Secure-homeport=x", []),
            (" =homeport_session=x", []),
            ("HomePort=x", []),
            ("not-homeport=x", ["not-homeport=x"]),
        ],
    )
    async def test_a_service_cannot_set_those_of_homeport(self, sent: str, goes_on: list[str]) -> None:
        async with Stage(web=answering(ok(headers=f"Set-Cookie: {sent}\r\nSet-Cookie: other=1\r\n"))) as stage:
            reply = await (await stage.connect()).get()
            assert reply.values("Set-Cookie") == [*goes_on, "other=1"]


class TestTheConnectionsOwnFields:
    @pytest.mark.parametrize(
        "field",
        [
            "Connection: keep-alive",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authenticate: Basic",
            "TE: gzip",
            "Upgrade: websocket",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        ],
    )
    async def test_they_do_not_go_on(self, field: str) -> None:
        name = field.partition(":")[0]
        assert values(await arrives(field), name) == []

    async def test_nor_does_what_connection_names(self) -> None:
        lines = await arrives(
            "Connection: close, X-Mine, x-other", "X-Mine: 1", "X-OTHER: 2", "X-Third: 3", "Cookie: a=1"
        )
        assert values(lines, "X-Mine") == values(lines, "X-Other") == []
        assert values(lines, "X-Third") == ["3"]
        assert values(lines, "Cookie") == ["a=1"]

    async def test_connection_cannot_take_away_what_the_gateway_says(self) -> None:
        lines = await arrives("Connection: close, X-Forwarded-For, X-Forwarded-Proto, traceparent")
        assert values(lines, "X-Forwarded-For") == ["127.0.0.1"]
        assert values(lines, "X-Forwarded-Proto") == ["http"]
        assert len(values(lines, "traceparent")) == 1

    async def test_what_connection_names_is_read_here_and_goes_no_further(self) -> None:
        lines = await arrives(
            "Connection: close, Authorization, Cookie, X-API-Key", "Cookie: a=1", "X-API-Key: services"
        )
        assert "hp_caller" not in "".join(lines)
        assert values(lines, "Cookie") == values(lines, "X-API-Key") == []

    async def test_trailers_are_asked_for_on_behalf_of_the_client(self) -> None:
        lines = await arrives("TE: trailers, deflate", "Connection: TE")
        assert values(lines, "TE") == ["trailers"]
        assert values(lines, "Connection") == ["TE"]

    async def test_an_upgrade_to_http2_is_not_passed_on(self) -> None:
        lines = await arrives("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        assert values(lines, "Upgrade") == values(lines, "Connection") == values(lines, "HTTP2-Settings") == []

    async def test_those_of_a_response_do_not_go_on_either(self) -> None:
        fields = (
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"
            "Upgrade: h2c\r\nX-Homeport-Error: none\r\nX-End: 1\r\n"
        )
        async with Stage(web=answering(ok(headers=fields))) as stage:
            client = await stage.connect()
            for _ in range(2):
                reply = await client.get()
                assert reply["X-End"] == "1"
                for name in ("Connection", "X-Hop", "Keep-Alive", "Proxy-Authenticate", "Upgrade", "X-Homeport-Error"):
                    assert reply[name] is None


class TestPretenders:
    @pytest.mark.parametrize(
        "field",
        [
            "X-Homeport-User: root",
            "x-homeport-anything: 1",
            "X_Homeport_User: root",
            "X-Real-IP: 1.2.3.4",
            "Forwarded: for=1.2.3.4",
            "X-Original-URL: /admin",
            "X-Rewrite-URL: /admin",
            "X-Forwarded-Port: 1",
            "X-Forwarded-User: root",
            "X_Forwarded_For: 1.2.3.4",
            "x_forwarded-host: evil",
            "Content_Length: 5",
            "Transfer_Encoding: chunked",
            "X_API_Key: hp_caller",
        ],
    )
    async def test_they_do_not_go_on(self, field: str) -> None:
        name = field.partition(":")[0]
        assert values(await arrives(field), name) == []

    async def test_an_ordinary_underscore_does(self) -> None:
        assert values(await arrives("my_field: 1"), "my_field") == ["1"]


class TestWhereFrom:
    async def test_it_is_said_by_the_gateway_whatever_the_client_says(self) -> None:
        lines = await arrives(
            "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Forwarded-Prefix: /x"
        )
        assert values(lines, "X-Forwarded-For") == ["127.0.0.1"]
        assert values(lines, "X-Forwarded-Proto") == ["http"]
        assert values(lines, "X-Forwarded-Host") == ["gw"]
        assert values(lines, "X-Forwarded-Prefix") == ["/d/home/cam/web"]

    async def test_a_trusted_proxy_is_believed(self) -> None:
        limits = GatewayLimits(trusted_proxies=[ipaddress.ip_network("127.0.0.0/8")])
        lines = await arrives(
            "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: HTTPS", "X-Forwarded-Host: public:444", limits=limits
        )
        assert values(lines, "X-Forwarded-For") == ["1.2.3.4, 127.0.0.1"]
        assert values(lines, "X-Forwarded-Proto") == ["https"]
        assert values(lines, "X-Forwarded-Host") == ["public:444"]

    async def test_what_a_trusted_proxy_says_must_make_sense(self) -> None:
        limits = GatewayLimits(trusted_proxies=[ipaddress.ip_network("127.0.0.0/8")])
        lines = await arrives("X-Forwarded-Proto: gopher", "X-Forwarded-Host: a b", limits=limits)
        assert values(lines, "X-Forwarded-Proto") == ["http"]
        assert values(lines, "X-Forwarded-Host") == ["gw"]

    async def test_wrong_tokens_count_against_the_client_behind_a_trusted_proxy(self) -> None:
        limits = GatewayLimits(trusted_proxies=[ipaddress.ip_network("127.0.0.0/8")])
        async with Stage(web=answering(ok()), limits=limits) as stage:
            stage.authenticator.slow = {"hp_caller"}
            client = await stage.connect()
            await client.get(headers="X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n")
            await client.get(headers="X-Forwarded-For: nonsense\r\n")
            assert stage.authenticator.asked == [("hp_caller", "1.2.3.4"), ("hp_caller", "127.0.0.1")]


class TestTraces:
    GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def test_one_is_begun_for_a_request_without(self) -> None:
        (trace,) = values(await arrives("tracestate: a=1"), "traceparent")
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace)

    async def test_one_that_was_begun_goes_on_with_a_span_of_this_hop(self) -> None:
        lines = await arrives(f"traceparent: {self.GOOD}", "tracestate: a=1")
        (trace,) = values(lines, "traceparent")
        assert trace.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
        assert trace.endswith("-01")
        assert "00f067aa0ba902b7" not in trace
        assert values(lines, "tracestate") == ["a=1"]

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            "nonsense",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ],
    )
    async def test_a_malformed_one_is_as_none_and_its_state_goes_with_it(self, bad: str) -> None:
        lines = await arrives(f"traceparent: {bad}", "tracestate: a=1")
        (trace,) = values(lines, "traceparent")
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace)
        assert "4bf92f35" not in trace
        assert values(lines, "tracestate") == []

    async def test_a_later_version_is_understood_as_far_as_it_goes(self) -> None:
        (trace,) = values(await arrives(f"traceparent: 01{self.GOOD[2:]}-more"), "traceparent")
        assert trace.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")

    async def test_the_agent_is_told_of_it_when_a_stream_is_opened(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            await client.get(headers=f"traceparent: {self.GOOD}\r\n")
            assert stage.relay.opens[0]["traceparent"] == self.GOOD

    async def test_two_requests_have_a_span_each(self) -> None:
        async with Stage(web=Echo()) as stage:
            client = await stage.connect()
            traces = {re.search(rb"traceparent: .*", (await client.get()).body)[0] for _ in range(5)}  # type: ignore[index]
            assert len(traces) == 5


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/d/home/cam/web//x",
            "//d/home/cam/web/x",
            "/d/home/cam/web/../other/",
            "/d/home/cam/web/..",
            "/d/home/cam/web/./x",
            "/d/home/cam/web/%2e%2e/other",
            "/d/home/cam/web/.%2E/other",
            "/d/home/cam/web/..;/other",
            "/d/home/cam/web/..;x=1/other",
            "/d/home/cam/web/a%2fb",
            "/d/home/cam/web/a%2Fb",
            "/d/home/cam/web/a%5cb",
            "/d/home/cam/web/a\\b",
            "/d/home/cam/web/a%00b",
            "/d/home/cam/web/a%0d%0ab",
            "/d/home/cam/web/a%7fb",
            "/d/home/cam/web/%",
            "/d/home/cam/web/%zz",
            "/d/home/cam/web/a#b",
            '/d/home/cam/web/a"b',
            "/d/home/cam/web/<script>",
            "/d/home/cam/web/?a#b",
            "http://user@gw/d/home/cam/web/",
            "ftp://gw/d/home/cam/web/",
            "gw/d/home/cam/web/",
            "*",
        ],
    )
    async def test_what_two_could_read_differently_is_refused_and_the_connection_goes_on(self, path: str) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(f"GET {path} HTTP/1.1\r\nHost: gw\r\n{TOKEN}\r\n\r\n")
            reply = await client.reply()
            assert (reply.status, reply.code) == (400, "bad_path")
            assert stage.relay.opens == []
            assert (await client.get()).status == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/a%20b",
            "/a%252fb",
            "/...",
            "/.well-known/x",
            "/a..b",
            "/a;b=c",
            "/@a:b,c",
            "/%E2%82%AC",
            "/a|b[c]{d}",
            "/?a=//b",
        ],
    )
    async def test_what_is_only_unusual_goes_on_as_it_is(self, path: str) -> None:
        async with Stage(web=Echo()) as stage:
            reply = await (await stage.connect()).get(path)
            assert reply.body.startswith(f"GET {path} HTTP/1.1\r\n".encode())


class TestCrossSite:
    BASIC = "Authorization: Basic eDpocF9jYWxsZXI="

    @pytest.mark.parametrize(
        ("method", "fields", "status"),
        [
            ("GET", "Sec-Fetch-Site: cross-site\r\n", 200),
            ("GET", "Origin: https://evil.example\r\n", 200),
            ("POST", "Sec-Fetch-Site: same-origin\r\n", 200),
            ("POST", "Sec-Fetch-Site: none\r\n", 200),
            ("POST", "Origin: http://gw\r\n", 200),
            ("POST", "", 200),
            ("POST", "Sec-Fetch-Site: cross-site\r\n", 403),
            ("POST", "Sec-Fetch-Site: same-site\r\n", 403),
            ("POST", "Origin: https://evil.example\r\n", 403),
            ("POST", "Origin: null\r\n", 403),
            ("DELETE", "Sec-Fetch-Site: cross-site\r\nOrigin: http://gw\r\n", 403),
            ("GET", "Sec-Fetch-Site: cross-site\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 403),
        ],
    )
    async def test_a_browsers_password_does_not_act_for_other_sites(
        self, method: str, fields: str, status: int
    ) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            await client.send(f"{method} /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n{self.BASIC}\r\n{fields}\r\n")
            reply = await client.reply()
            assert reply.status == status
            if status == 403:
                assert reply.code == "cross_site_request"
                assert stage.relay.opens == []

    async def test_a_token_that_a_page_has_to_know_does(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            reply = await (await stage.connect()).request("POST", headers="Sec-Fetch-Site: cross-site\r\n")
            assert reply.status == 200
