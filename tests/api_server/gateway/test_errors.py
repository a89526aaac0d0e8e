"""What a client is told when it does not get through: the code, the status, and whether its connection goes on."""

from __future__ import annotations

import asyncio

import pytest

from api_server.gateway import GatewayLimits
from common.errors import HomeportError
from common.sessions.errors import (
    DeviceOfflineError,
    DrainingError,
    OverCapacityError,
    RelayUnavailableError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
)
from tests.api_server.gateway.stage import BEARER, Reply, Stage, answering, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide

pytestmark = pytest.mark.anyio


async def ask(stage: Stage, path: str = "/d/home/cam/web/", credential: str = BEARER, method: str = "GET") -> Reply:
    """One request on a fresh connection."""
    client = await stage.connect()
    await client.send(f"{method} {path} HTTP/1.1\r\nHost: gw\r\n{credential}\r\n")
    return await client.reply(head_only=method == "HEAD")


class TestWhoMay:
    @pytest.mark.parametrize(
        ("credential", "status", "code"),
        [
            ("", 401, "unauthenticated"),
            ("Authorization: Bearer hp_unknown\r\n", 401, "unauthenticated"),
            ("Authorization: Bearer something-else\r\n", 401, "unauthenticated"),
            ("X-API-Key: not-ours\r\n", 401, "unauthenticated"),
            ("Authorization: Basic !!!\r\n", 401, "unauthenticated"),
            ("Authorization: Bearer hp_reader\r\n", 403, "forbidden"),
            ("Authorization: Bearer hp_stranger\r\n", 404, "no_such_device"),
            ("Authorization: Bearer hp_guesser\r\n", 429, "rate_limited"),
            ("Authorization: Bearer hp_caller\r\nX-API-Key: hp_reader\r\n", 400, "conflicting_credentials"),
            ("Authorization: Bearer hp_caller\r\n", 200, None),
            ("X-API-Key: hp_caller\r\n", 200, None),
            ("Authorization: Bearer hp_caller\r\nX-API-Key: hp_caller\r\n", 200, None),
            ("Authorization: Basic eDpocF9jYWxsZXI=\r\n", 200, None),
        ],
    )
    async def test_the_credential_decides(self, credential: str, status: int, code: str | None) -> None:
        async with Stage(web=answering(ok())) as stage:
            reply = await ask(stage, credential=credential)
            assert reply.status == status
            if code is not None:
                assert reply.code == code
                assert stage.relay.opens == []

    async def test_a_401_says_how_to_authenticate_and_for_which_service(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            bearer, basic = (await ask(stage, credential="")).values("WWW-Authenticate")
            assert bearer.startswith("Bearer ")
            assert basic.startswith('Basic realm="homeport home/cam/web"')

    async def test_a_429_says_when_to_come_back(self) -> None:
        async with Stage() as stage:
            assert (await ask(stage, credential="X-API-Key: hp_guesser\r\n"))["Retry-After"] == "8"

    async def test_a_token_in_the_query_is_refused_even_with_a_good_one_beside_it(self) -> None:
        token = "hp_" + "a" * 49
        async with Stage(web=answering(ok())) as stage:
            reply = await ask(stage, f"/d/home/cam/web/?token={token}")
            assert (reply.status, reply.code) == (400, "credential_in_query")
            assert token not in reply.body.decode()

    async def test_a_token_that_takes_asking_is_waited_for(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            stage.authenticator.slow = {"hp_caller", "hp_reader", "hp_nobody"}
            assert (await ask(stage)).status == 200
            assert (await ask(stage)).status == 200
            assert (await ask(stage, credential="X-API-Key: hp_reader\r\n")).code == "forbidden"
            assert (await ask(stage, credential="X-API-Key: hp_nobody\r\n")).code == "unauthenticated"
            assert stage.authenticator.asked[0] == ("hp_caller", "127.0.0.1")

    async def test_a_client_that_leaves_is_not_waited_for(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            stage.authenticator.slow = {"hp_caller"}
            stage.authenticator.answer_now.clear()
            client = await stage.connect()
            await client.send(request_head())
            await stage.until(lambda: bool(stage.authenticator.asked))
            client.cut()
            await stage.until(lambda: stage.gateway.statistics().connections == 0)
            stage.authenticator.answer_now.set()
            await stage.turn()
            assert stage.relay.opens == []


class TestWhereTo:
    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/nothing",
            "/d",
            "/d/home/cam",
            "/d/home/cam/",
            "/d/Home/cam/web/",
            "/d/home/cam--1/web/",
            "/d/-home/cam/web/",
            f"/d/home/{'c' * 41}/web/",
            "/dd/home/cam/web/",
            "/t/home/cam/web/more",
        ],
    )
    async def test_no_route(self, path: str) -> None:
        async with Stage(web=answering(ok())) as stage:
            reply = await ask(stage, path)
            assert (reply.status, reply.code) == (404, "no_route")

    async def test_what_has_no_route_is_not_told_to_strangers(self) -> None:
        async with Stage() as stage:
            assert (await ask(stage, "/nothing", "")).status == 401

    async def test_a_team_that_does_not_exist_looks_like_one_of_somebody_else(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            mine = await ask(stage, "/d/away/cam/web/")
            nobodys = await ask(stage, "/d/nobody/cam/web/")
            assert mine.code == nobodys.code == "no_such_device"
            assert mine.body.replace(b"away", b"...") == nobodys.body.replace(b"nobody", b"...")

    async def test_a_device_without_a_session_is_offline(self) -> None:
        async with Stage() as stage:
            reply = await ask(stage, "/d/home/gone/web/")
            assert (reply.status, reply.code) == (502, "device_offline")

    async def test_a_device_that_was_offline_is_found_when_it_comes_back(self) -> None:
        async with Stage() as stage:
            assert (await ask(stage, "/d/home/gone/web/")).code == "device_offline"
            stage.relay.online("gone", web=answering(ok()))
            stage.advance(1)
            assert (await ask(stage, "/d/home/gone/web/")).status == 200


class TestTheRelaysAnswer:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (ServiceRefusedError("connection refused"), 502, "service_refused"),
            (ServiceTimeoutError(), 504, "service_timeout"),
            (OverCapacityError(retry_after=3), 503, "over_capacity"),
            (DrainingError(retry_after=3), 503, "draining"),
            (SessionNotFoundError(), 502, "device_offline"),
            (DeviceOfflineError(), 502, "device_offline"),
            (RelayUnavailableError(), 502, "relay_unavailable"),
        ],
    )
    async def test_a_refused_open_keeps_its_code(self, error: HomeportError, status: int, code: str) -> None:
        async with Stage(web=answering(ok())) as stage:
            stage.relay.refusal = error
            client = await stage.connect()
            reply = await client.get()
            assert (reply.status, reply.code) == (status, code)
            assert reply["Retry-After"] == ("3" if error.retry_after else None)
            stage.relay.refusal = None
            assert (await client.get()).status == 200

    async def test_a_service_that_the_device_does_not_have(self) -> None:
        async with Stage() as stage:
            reply = await ask(stage, "/d/home/cam/other/")
            assert reply.code == "service_refused"
            assert "other" in reply.problem["detail"]

    async def test_a_relay_that_is_away(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            assert (await client.get()).status == 200
            stage.relay.stop()
            stage.pool.close()
            assert (await client.get()).code == "relay_unavailable"
            stage.advance(60)
            assert (await client.get()).code == "relay_unavailable"


class TestTheServicesAnswer:
    async def test_a_service_that_closes_instead_of_answering(self) -> None:
        async def shy(side: ServiceSide) -> None:
            await side.read_head()

        async with Stage(web=shy) as stage:
            client = await stage.connect()
            reply = await client.get()
            assert (reply.status, reply.code) == (502, "stream_reset")
            assert (await client.get()).code == "stream_reset"

    async def test_a_service_that_resets_instead_of_answering(self) -> None:
        async def rude(side: ServiceSide) -> None:
            await side.read_head()
            side.reset()

        async with Stage(web=rude) as stage:
            assert (await ask(stage)).code == "stream_reset"

    async def test_a_service_that_closes_within_its_head(self) -> None:
        async def cut(side: ServiceSide) -> None:
            await side.read_head()
            await side.send(b"HTTP/1.1 200 OK\r\nContent-Le")

        async with Stage(web=cut) as stage:
            assert (await ask(stage)).code == "stream_reset"


class TestTheConnectionAfterwards:
    async def test_head_gets_the_head_of_the_error_alone(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            for _ in range(2):
                await client.send("HEAD /nothing HTTP/1.1\r\nHost: gw\r\n" + BEARER + "\r\n")
                reply = await client.reply(head_only=True)
                assert reply.status == 404
                assert int(reply["Content-Length"] or 0) > 0

    async def test_a_small_body_is_thrown_away_and_the_connection_goes_on(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            head = "POST /nothing HTTP/1.1\r\nHost: gw\r\n" + BEARER + "Content-Length: 10\r\n\r\n"
            await client.send(head + "01234")
            reply = await client.reply()
            assert (reply.status, reply["Connection"]) == (404, None)
            await client.send("56789" + head + "0123456789")
            assert (await client.reply()).status == 404
            assert (await client.get()).status == 200

    @pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
    async def test_a_body_of_any_size_is_not_waited_for(self, framing: str) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await client.send(f"POST /nothing HTTP/1.1\r\nHost: gw\r\n{BEARER}{framing}\r\n\r\n")
            reply = await client.reply()
            assert (reply.status, reply["Connection"]) == (404, "close")
            # What the client still sends must not reset the connection before it has read the answer.
            await client.send(b"x" * 1000)
            client.end()
            assert await client.closed()

    async def test_a_client_that_waits_for_100_is_not_asked_for_its_body(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await client.send(
                f"POST /nothing HTTP/1.1\r\nHost: gw\r\n{BEARER}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            reply = await client.reply()
            assert (reply.status, reply["Connection"]) == (404, "close")

    async def test_a_client_that_closes_is_told_so(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await client.send(f"GET /nothing HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: close\r\n\r\n")
            assert (await client.reply())["Connection"] == "close"
            assert await client.closed()

    async def test_an_unknown_expectation(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            reply = await client.get(headers="Expect: a-miracle\r\n")
            assert (reply.status, reply.code) == (417, "expectation_failed")
            assert (await client.get()).status == 200


class TestSizes:
    async def test_a_head_over_the_limit(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            reply = await client.get(headers=f"X-Large: {'x' * stage.limits.max_head_bytes}\r\n")
            assert (reply.status, reply.code) == (431, "head_too_large")
            assert await client.closed()

    async def test_a_head_without_an_end(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await client.send("GET / HTTP/1.1\r\n", *[f"X-{number}: {'x' * 1000}\r\n" for number in range(70)])
            assert (await client.reply()).code == "head_too_large"

    async def test_too_many_fields(self) -> None:
        async with Stage(limits=GatewayLimits(max_fields=10)) as stage:
            client = await stage.connect()
            reply = await client.get(headers="".join(f"X-{number}: x\r\n" for number in range(10)))
            assert (reply.status, reply.code) == (431, "head_too_large")

    @pytest.mark.parametrize("complete", [True, False])
    async def test_a_target_over_the_limit(self, complete: bool) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            target = "/" + "x" * (stage.limits.max_target_bytes + 100)
            await client.send(f"GET {target}" + (" HTTP/1.1\r\nHost: gw\r\n\r\n" if complete else ""))
            reply = await client.reply()
            assert (reply.status, reply.code) == (414, "target_too_long")

    async def test_a_body_over_the_limit_by_its_length(self) -> None:
        async with Stage(limits=GatewayLimits(max_body_bytes=100), web=answering(ok())) as stage:
            client = await stage.connect()
            assert (await client.request("POST", body=bytes(100))).status == 200
            reply = await client.request("POST", body=bytes(101))
            assert (reply.status, reply.code) == (413, "body_too_large")
            assert (await client.request("POST", body=bytes(100))).status == 200

    async def test_a_body_over_the_limit_by_its_chunks(self) -> None:
        cut = asyncio.Event()

        async def sink(side: ServiceSide) -> None:
            if await side.was_reset():
                cut.set()

        async with Stage(limits=GatewayLimits(max_body_bytes=100), web=sink) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Transfer-Encoding: chunked\r\n"))
            await stage.relay.wait_opens(1)
            await client.send("50\r\n" + "x" * 0x50 + "\r\n", "50\r\n" + "x" * 0x50 + "\r\n")
            reply = await client.reply()
            assert (reply.status, reply.code, reply["Connection"]) == (413, "body_too_large", "close")
            await cut.wait()

    async def test_more_clients_than_may(self) -> None:
        async with Stage(limits=GatewayLimits(max_connections=2), web=answering(ok())) as stage:
            clients = [await stage.connect() for _ in range(2)]
            for client in clients:
                assert (await client.get()).status == 200
            third = await stage.connect()
            reply = await third.reply()
            assert (reply.status, reply.code, reply["Retry-After"]) == (503, "over_capacity", "1")
            third.writer.close()
            clients[0].writer.close()
            await stage.until(lambda: stage.gateway.statistics().connections < 2)
            assert (await (await stage.connect()).get()).status == 200


async def test_errors_and_responses_are_counted() -> None:
    async with Stage(web=answering(ok())) as stage:
        client = await stage.connect()
        await client.get()
        await client.get()
        await client.get(service="none")
        assert stage.metric("responses_total", status="200") == 2
        assert stage.metric("responses_total", status="502") == 1
        assert stage.metric("errors_total", code="service_refused") == 1
        assert stage.metric("response_seconds_count") == 2
        assert stage.metric("streams_opened_total") == 1
        assert stage.metric("streams_reused_total") == 1
        assert stage.metric("streams_refused_total") == 1
        assert stage.metric("connections") == 1
        statistics = stage.gateway.statistics()
        assert (statistics.requests, statistics.connections, statistics.active) == (3, 1, 0)
