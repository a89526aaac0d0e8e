"""Who leaves when: clients, services, half-closes, early responses, time limits, the end of the gateway."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from api_server.gateway import GatewayLimits
from tests.api_server.gateway.stage import BEARER, Client, Stage, answering, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide, read_request

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Script:
    """A service that answers with `response` and then waits for the stream's end, and says how it ended."""

    def __init__(self, response: bytes = b"", *, read_head: bool = True) -> None:
        self.response = response
        self.read_head = read_head
        self.side: ServiceSide
        self.answered = asyncio.Event()
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether the end was a reset."""
        self.received = b""

    async def __call__(self, side: ServiceSide) -> None:
        self.side = side
        if self.read_head:
            await side.read_head()
        await side.send(self.response)
        self.answered.set()
        try:
            self.received = await side.read_to_end()
        except ConnectionResetError:
            self.over.set_result(True)
        else:
            self.over.set_result(False)


async def flood(client: Client) -> None:
    """Send without end."""
    while True:
        client.writer.write(bytes(64 * 1024))
        await client.writer.drain()


class TestTheClientLeaves:
    @pytest.mark.parametrize("response", [b"", CHUNKED + b"4\r\nabcd\r\n", b"HTTP/1.1 200 OK\r\n\r\nabc"])
    async def test_a_reset_by_the_client_reaches_the_service(self, response: bytes) -> None:
        service = Script(response)
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await service.answered.wait()
            client.cut()
            assert await service.over
            await stage.until(lambda: stage.gateway.statistics().connections == 0)

    async def test_a_client_that_leaves_within_its_upload_resets_the_service(self) -> None:
        service = Script()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Content-Length: 1000\r\n") + "x" * 10)
            await service.answered.wait()
            client.end()
            assert await service.over, "the service must not take ten bytes for the whole of a thousand"

    async def test_a_client_that_closed_is_noticed_when_a_response_comes(self) -> None:
        service = Script(CHUNKED)
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await client.head()
            client.writer.close()
            with contextlib.suppress(ConnectionError):
                while not service.over.done():
                    await service.side.send(b"5\r\nevent\r\n")
                    await asyncio.sleep(0)
            assert await service.over

    async def test_a_client_that_closed_is_given_up_if_nothing_comes(self) -> None:
        service = Script()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await service.answered.wait()
            client.writer.close()
            await stage.turn()
            stage.advance(stage.limits.half_closed_timeout + 1)
            assert await service.over

    async def test_a_client_that_leaves_while_a_stream_is_opened(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            stage.relay.answer_now.clear()
            client = await stage.connect()
            await client.send(request_head())
            await stage.relay.wait_opens(1)
            client.cut()
            await stage.until(lambda: stage.gateway.statistics().connections == 0)
            stage.relay.answer_now.set()
            await stage.turn()
            assert len(stage.pool) == 0


class TestTheClientHalfCloses:
    async def test_it_still_gets_its_answer(self) -> None:
        async def serve(side: ServiceSide) -> None:
            await side.read_head()
            await side.send(CHUNKED)
            for _ in range(20):
                await side.send(b"1\r\nx\r\n")
                await asyncio.sleep(0)
            await side.send(b"0\r\n\r\n")

        async with Stage(web=serve) as stage:
            client = await stage.connect()
            await client.send(request_head())
            client.end()
            reply = await client.reply()
            assert reply.complete
            assert reply.body == b"x" * 20
            assert await client.closed()

    async def test_what_it_pipelined_before_is_answered_too(self) -> None:
        async with Stage(web=answering(ok(b"one"), ok(b"two"), ok(b"three"))) as stage:
            client = await stage.connect()
            await client.send(request_head() * 3)
            client.end()
            assert [(await client.reply()).body for _ in range(3)] == [b"one", b"two", b"three"]
            assert await client.closed()

    async def test_its_time_begins_anew_with_each_byte_of_the_response(self) -> None:
        service = Script(CHUNKED)
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await client.head()
            client.end()
            await stage.turn()
            for _ in range(5):
                stage.advance(stage.limits.half_closed_timeout - 1)
                await service.side.send(b"5\r\nevent\r\n")
                assert await client.read(10) == b"5\r\nevent\r\n"

    async def test_one_that_sent_half_a_head_is_closed(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await client.send("GET / HTT")
            client.end()
            assert await client.closed()

    async def test_one_that_sent_nothing_is_closed(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            client.end()
            assert await client.closed()


class TestTheServiceLeaves:
    @pytest.mark.parametrize("by_reset", [False, True])
    @pytest.mark.parametrize(
        "start",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
            CHUNKED + b"3\r\nabc\r\n",
            CHUNKED + b"5\r\nabc",
            CHUNKED + b"3\r\nabc\r\n0\r\n",
        ],
    )
    async def test_a_response_that_breaks_off_never_looks_whole(self, start: bytes, by_reset: bool) -> None:
        go = asyncio.Event()

        async def breaks(side: ServiceSide) -> None:
            await side.read_head()
            await side.send(start)
            await go.wait()
            if by_reset:
                side.reset()

        async with Stage(web=breaks) as stage:
            client = await stage.connect()
            await client.send(request_head())
            assert (await client.head()).status == 200
            go.set()
            assert await client.was_cut()

    async def test_a_reset_is_not_the_end_of_a_response_without_a_length(self) -> None:
        service = Script(b"HTTP/1.1 200 OK\r\n\r\nabc")
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await client.head()
            assert await client.read(3) == b"abc"
            service.side.reset()
            assert await client.was_cut()

    async def test_an_http_10_client_is_not_shown_the_end_of_chunks_that_broke_off(self) -> None:
        service = Script(CHUNKED + b"3\r\nabc\r\n")
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(f"GET /d/home/cam/web/ HTTP/1.0\r\n{BEARER}\r\n")
            await client.head()
            assert await client.read(3) == b"abc"
            service.side.end()
            assert await client.was_cut()


class TestEarlyResponses:
    async def test_a_response_may_flow_while_the_upload_does(self) -> None:
        async def echo(side: ServiceSide) -> None:
            await side.read_head()
            await side.send(CHUNKED)
            while (line := await side.reader.readline()) != b"0\r\n":
                await side.send(line)
            await side.send(b"0\r\n\r\n")
            await side.was_reset()

        async with Stage(web=echo) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Transfer-Encoding: chunked\r\n"))
            head = await client.head()
            assert (head.status, head["Connection"]) == (200, "close")
            for _ in range(10):
                await client.send("4\r\nping\r\n")
                assert await client.read(9) == b"4\r\nping\r\n"
            await client.send("0\r\n\r\n")
            assert await client.read_to_end() == b"0\r\n\r\n"

    async def test_a_client_that_is_still_sending_can_read_the_refusal(self) -> None:
        service = Script(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Content-Length: 100000000\r\n") + "x" * 1000)
            await service.answered.wait()
            # The rest of an upload that nobody wants is thrown away, so that it does not reset the connection.
            for _ in range(100):
                await client.send(b"x" * 10_000)
            reply = await client.reply()
            assert (reply.status, reply.body, reply["Connection"]) == (413, b"no", "close")
            assert await service.over
            client.end()
            assert await client.closed()

    async def test_a_client_that_never_stops_sending_is_cut(self) -> None:
        service = Script(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Content-Length: 100000000\r\n") + "x" * 1000)
            assert (await client.reply()).body == b"no"
            await client.send(b"x" * 10_000)
            await stage.turn()
            stage.advance(stage.limits.linger_timeout + 1)
            await stage.until(lambda: stage.gateway.statistics().connections == 0)


class TestTimeLimits:
    async def test_a_head_that_does_not_come(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await stage.until(lambda: stage.gateway.statistics().connections == 1)
            stage.advance(stage.limits.header_timeout + 1)
            assert await client.closed()

    async def test_a_head_that_comes_too_slowly(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            for piece in ("GET / HTTP/1.1\r\n", "Host: gw\r\n", "X-Slow: 1\r\n"):
                await client.send(piece)
                await stage.turn()
                stage.advance(stage.limits.header_timeout * 0.4)
            reply = await client.reply()
            assert (reply.status, reply.code) == (408, "request_timeout")
            assert await client.closed()

    async def test_a_slow_head_on_a_connection_that_was_idle_has_its_own_time(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            await client.get()
            stage.advance(stage.limits.keepalive_timeout - 1)
            await client.send("GET / HTTP/1.1\r\n")
            await stage.turn()
            stage.advance(stage.limits.header_timeout - 1)
            await stage.turn()
            assert stage.gateway.statistics().connections == 1
            stage.advance(2)
            assert (await client.reply()).code == "request_timeout"

    async def test_an_idle_connection_is_closed_without_a_word(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            for _ in range(3):
                await client.get()
                stage.advance(stage.limits.keepalive_timeout - 1)
            await stage.turn()
            stage.advance(2)
            assert await client.closed()

    async def test_a_service_that_does_not_answer(self) -> None:
        service = Script()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await service.answered.wait()
            stage.advance(stage.limits.service_timeout - 2)
            await stage.turn()
            stage.advance(3)
            reply = await client.reply()
            assert (reply.status, reply.code) == (504, "service_timeout")
            assert await service.over
            stage.cam.services["web"] = answering(ok())
            assert (await client.get()).status == 200

    async def test_the_time_to_answer_begins_when_the_upload_ends(self) -> None:
        service = Script()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Content-Length: 50\r\n"))
            await service.answered.wait()
            for _ in range(5):
                await client.send(b"x" * 10)
                await stage.turn()
                stage.advance(stage.limits.service_timeout - 1)
            await stage.turn()
            assert not service.over.done()
            stage.advance(2)
            assert (await client.reply()).code == "service_timeout"

    async def test_a_body_that_does_not_come_is_the_clients_fault(self) -> None:
        """It was a 504 `service_timeout`, though the service had nothing to answer yet."""
        service = Script()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers="Content-Length: 50\r\n"))
            await service.answered.wait()
            await client.send(b"x" * 10)
            await stage.turn()
            stage.advance(stage.limits.service_timeout + 1)
            reply = await client.reply()
            assert (reply.status, reply.code) == (408, "request_timeout")
            assert await service.over

    async def test_an_upload_on_a_slow_line_is_no_slow_service(self) -> None:
        """What the gateway and its kernel had taken of an upload counted as sent: a line that needed longer for it than
        `service_timeout` got a 504 in the middle of an upload that went on well.
        """
        reached: asyncio.Future[ServiceSide] = asyncio.get_running_loop().create_future()
        end = asyncio.Event()

        async def slow(side: ServiceSide) -> None:
            await side.read_head()
            reached.set_result(side)
            await end.wait()

        async with Stage(web=slow) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers=f"Content-Length: {1 << 30}\r\n"))
            side = await reached
            sending = asyncio.create_task(flood(client))
            for _ in range(3):
                await stage.turn(300)
                stage.advance(stage.limits.service_timeout + 1)
                await stage.turn(50)
                await side.read(8 * 1024 * 1024)
            reply = asyncio.create_task(client.reply())
            while not reply.done():
                await stage.turn(300)
                stage.advance(stage.limits.service_timeout + 1)
            assert reply.result().code == "service_timeout", "now it does not get on"
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            end.set()

    async def test_a_body_that_flows_has_no_time_limit(self) -> None:
        service = Script(CHUNKED)
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await client.head()
            for _ in range(30):
                stage.advance(stage.limits.stream_idle_timeout - 1)
                await service.side.send(b"5\r\nevent\r\n")
                assert await client.read(10) == b"5\r\nevent\r\n"

    async def test_a_body_that_does_not_flow_has(self) -> None:
        service = Script(CHUNKED)
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await client.head()
            stage.advance(stage.limits.stream_idle_timeout + 1)
            assert await client.was_cut()
            assert await service.over

    async def test_an_open_that_takes_long_is_the_forwarders_affair(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            stage.relay.answer_now.clear()
            client = await stage.connect()
            await client.send(request_head())
            await stage.relay.wait_opens(1)
            stage.advance(stage.limits.keepalive_timeout + stage.limits.header_timeout)
            stage.relay.answer_now.set()
            assert (await client.reply()).status == 200


class TestTheGatewayEnds:
    async def test_idle_clients_are_let_go_and_busy_ones_served(self) -> None:
        answer = asyncio.Event()

        async def slow(side: ServiceSide) -> None:
            while True:
                path = read_request(await side.read_head())[1]
                if path == "/slow":
                    await answer.wait()
                await side.send(ok())

        async with Stage(web=slow) as stage:
            idle, busy = await stage.connect(), await stage.connect()
            await idle.get()
            await busy.get()
            await busy.send(request_head(path="/slow"))
            await stage.until(lambda: stage.gateway.statistics().active == 1)
            draining = asyncio.ensure_future(stage.gateway.drain(20))
            assert await idle.closed()
            with pytest.raises(ConnectionRefusedError):
                await stage.connect()
            assert not draining.done()
            answer.set()
            reply = await busy.reply()
            assert (reply.body, reply["Connection"]) == (b"hello", "close")
            await draining
            assert stage.gateway.statistics().connections == 0

    async def test_what_does_not_end_within_the_grace_is_cut(self) -> None:
        service = Script(CHUNKED)
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head())
            await client.head()
            await stage.gateway.drain(0)
            assert await client.was_cut()
            assert await service.over

    async def test_what_is_being_looked_for_is_given_up(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            stage.relay.answer_now.clear()
            client = await stage.connect()
            await client.send(request_head())
            await stage.relay.wait_opens(1)
            await stage.gateway.close()
            assert await client.was_cut()

    async def test_closing_one_that_never_started(self) -> None:
        stage = Stage(limits=GatewayLimits())
        async with stage:
            await stage.gateway.close()
            await stage.gateway.close()
            with pytest.raises(RuntimeError, match="does not listen"):
                _ = stage.gateway.port
