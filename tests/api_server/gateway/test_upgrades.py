"""WebSockets and other upgrades of a service, and raw TCP, plain and over WebSocket."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.uri import parse_uri

from tests.api_server.gateway.stage import BEARER, Client, Stage, answering, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide, read_request

pytestmark = pytest.mark.anyio

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Mine: 1\r\n\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: echo\r\n"


class Raw:
    """A service that switches to `echo`, if it is asked over HTTP, and then sends back what comes until it ends."""

    def __init__(self, greeting: bytes = b"", *, http: bool = True) -> None:
        self.greeting = greeting
        self.http = http
        self.head = b""
        self.side: ServiceSide
        self.joined = asyncio.Event()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """`reset` or `end`."""

    async def __call__(self, side: ServiceSide) -> None:
        self.side = side
        if self.http:
            self.head = await side.read_head()
            await side.send(SWITCHING)
        if self.greeting:
            await side.send(self.greeting)
        self.joined.set()
        try:
            while data := await side.reader.read(65536):
                await side.send(data)
        except ConnectionError:
            self.over.set_result("reset")
            return
        self.over.set_result("end")
        if not side.ended:
            await side.send(b"bye")
            side.end()


class TestUpgrades:
    async def test_after_101_bytes_pass_both_ways(self) -> None:
        service = Raw(b"welcome")
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head(headers=UPGRADE))
            head = await client.head()
            assert (head.status, head["Connection"], head["Upgrade"], head["X-Mine"]) == (101, "Upgrade", "echo", "1")
            assert await client.read(7) == b"welcome"
            headers = read_request(service.head)[2]
            assert (headers["connection"], headers["upgrade"]) == ("Upgrade", "echo")
            for number in range(10):
                await client.send(b"ping %d" % number)
                assert await client.read(6) == b"ping %d" % number

    async def test_what_a_client_sends_early_is_kept_for_the_new_protocol(self) -> None:
        async with Stage(web=Raw()) as stage:
            client = await stage.connect()
            await client.send(request_head(headers=UPGRADE) + "early")
            assert (await client.head()).status == 101
            assert await client.read(5) == b"early"

    async def test_what_a_client_sends_early_is_a_request_if_the_upgrade_is_refused(self) -> None:
        async with Stage(web=answering(ok(b"no"), ok(b"next"))) as stage:
            client = await stage.connect()
            await client.send(request_head(headers=UPGRADE) + request_head())
            assert (await client.reply()).body == b"no"
            assert (await client.reply()).body == b"next"

    async def test_a_service_may_demand_an_upgrade(self) -> None:
        demand = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: echo\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"
        async with Stage(web=answering(demand)) as stage:
            client = await stage.connect()
            reply = await client.get()
            assert (reply.status, reply["Upgrade"], reply["Connection"]) == (426, "echo", "Upgrade")

    async def test_a_half_close_passes_both_ways(self) -> None:
        service = Raw()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head(headers=UPGRADE))
            await client.head()
            client.end()
            assert await client.read_to_end() == b"bye"
            assert await service.over == "end"
            await stage.until(lambda: stage.gateway.statistics().connections == 0)

    async def test_a_client_may_send_on_after_the_services_end(self) -> None:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def one_sided(side: ServiceSide) -> None:
            await side.read_head()
            await side.send(SWITCHING)
            side.end()
            got.set_result(await side.read_to_end())

        async with Stage(web=one_sided) as stage:
            client = await stage.connect()
            await client.send(request_head(headers=UPGRADE))
            await client.head()
            assert await client.read_to_end() == b""
            await client.send("still here")
            client.end()
            assert await got == b"still here"

    async def test_a_reset_passes_both_ways(self) -> None:
        for by_client in (True, False):
            service = Raw()
            async with Stage(web=service) as stage:
                client = await stage.connect()
                await client.send(request_head(headers=UPGRADE))
                await client.head()
                await service.joined.wait()
                if by_client:
                    client.cut()
                    assert await service.over == "reset"
                else:
                    service.side.reset()
                    assert await client.was_cut()

    async def test_silence_has_a_limit_and_traffic_has_none(self) -> None:
        service = Raw()
        async with Stage(web=service) as stage:
            client = await stage.connect()
            await client.send(request_head(headers=UPGRADE))
            await client.head()
            for _ in range(20):
                stage.advance(stage.limits.stream_idle_timeout - 1)
                await client.send("ping")
                assert await client.read(4) == b"ping"
            stage.advance(stage.limits.stream_idle_timeout + 1)
            assert await client.was_cut()
            assert await service.over == "reset"

    async def test_a_101_in_the_middle_of_an_upload_is_a_cut_connection(self) -> None:
        async with Stage(web=Raw()) as stage:
            client = await stage.connect()
            await client.send(request_head("POST", headers=f"{UPGRADE}Content-Length: 10\r\n") + "part")
            assert await client.was_cut()

    async def test_an_upgraded_stream_is_not_used_again(self) -> None:
        async with Stage() as stage:
            for number in range(2):
                service = stage.cam.services["web"] = Raw()
                client = await stage.connect()
                await client.send(request_head(headers=UPGRADE))
                assert (await client.head()).status == 101
                client.end()
                assert await client.read_to_end() == b"bye"
                assert await service.over == "end"
                assert len(stage.relay.opens) == number + 1
            assert len(stage.pool) == 0

    async def test_a_websocket_of_a_service(self) -> None:
        async def serve(side: ServiceSide) -> None:
            from websockets.server import ServerProtocol

            protocol = ServerProtocol()
            protocol.receive_data(await side.read_head())
            (request,) = protocol.events_received()
            protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
            await side.send(*protocol.data_to_send())
            while data := await side.reader.read(65536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    assert isinstance(event, Frame)
                    if event.opcode is Opcode.TEXT:
                        protocol.send_text(event.data)
                for piece in protocol.data_to_send():
                    if piece:
                        await side.send(piece)
                    else:
                        side.end()

        async with Stage(web=serve) as stage:
            url = f"ws://127.0.0.1:{stage.port}/d/home/cam/web/socket"
            async with connect(url, additional_headers={"Authorization": "Bearer hp_caller"}, proxy=None) as socket:
                for text in ("one", "two" * 50_000):
                    await socket.send(text)
                    assert await socket.recv() == text
            assert socket.close_code == 1000
            assert stage.gateway.statistics().tunnels == 1


class TestRawTcp:
    HEAD = f"GET /t/home/cam/ssh HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"

    async def join(self, stage: Stage, early: str = "") -> Client:
        client = await stage.connect()
        await client.send(self.HEAD + early)
        head = await client.head()
        assert (head.status, head["Upgrade"], head["Connection"]) == (101, "homeport-tcp", "Upgrade")
        return client

    async def test_bytes_pass_both_ways_from_the_first_on(self) -> None:
        async with Stage(ssh=Raw(b"SSH-2.0-x\r\n", http=False)) as stage:
            client = await self.join(stage, early="SSH-2.0-y\r\n")
            assert await client.read(11) == b"SSH-2.0-x\r\n"
            assert await client.read(11) == b"SSH-2.0-y\r\n"
            client.end()
            assert await client.read_to_end() == b"bye"

    async def test_megabytes_pass_both_ways_at_once(self) -> None:
        body = bytes(range(256)) * 40_000
        async with Stage(ssh=Raw(http=False)) as stage:
            client = await self.join(stage)

            async def write() -> None:
                await client.send(body)
                client.end()

            writing = asyncio.ensure_future(write())
            received = await client.read_to_end()
            await writing
            assert hashlib.sha256(received).digest() == hashlib.sha256(body + b"bye").digest()

    async def test_a_reset_passes_both_ways(self) -> None:
        for by_client in (True, False):
            service = Raw(http=False)
            async with Stage(ssh=service) as stage:
                client = await self.join(stage)
                await service.joined.wait()
                if by_client:
                    client.cut()
                    assert await service.over == "reset"
                else:
                    service.side.reset()
                    assert await client.was_cut()

    async def test_it_always_has_a_stream_of_its_own(self) -> None:
        async with Stage(ssh=answering(ok())) as stage:
            client = await stage.connect()
            await client.get(service="ssh")
            assert len(stage.pool) == 1
            await self.join(stage)
            assert len(stage.relay.opens) == 2

    async def test_an_error_is_told_before_the_upgrade(self) -> None:
        async with Stage() as stage:
            client = await stage.connect()
            await client.send(self.HEAD)
            reply = await client.reply()
            assert (reply.status, reply.code) == (502, "service_refused")
            await client.send(self.HEAD.replace(BEARER, ""))
            assert (await client.reply()).status == 401

    @pytest.mark.parametrize("headers", ["", "Upgrade: homeport-tcp\r\n", "Connection: upgrade\r\nUpgrade: other\r\n"])
    async def test_a_request_without_the_upgrade_is_told_which(self, headers: str) -> None:
        async with Stage(ssh=Raw(http=False)) as stage:
            client = await stage.connect()
            await client.send(f"GET /t/home/cam/ssh HTTP/1.1\r\nHost: gw\r\n{BEARER}{headers}\r\n")
            reply = await client.reply()
            assert (reply.status, reply.code) == (426, "upgrade_required")
            assert reply["Upgrade"] == "homeport-tcp, websocket"
            assert reply["Connection"] == "Upgrade"
            assert stage.relay.opens == []

    async def test_a_request_with_a_body_is_refused(self) -> None:
        async with Stage(ssh=Raw(http=False)) as stage:
            client = await stage.connect()
            await client.send(self.HEAD.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody"))
            assert (await client.reply()).code == "bad_request"

    async def test_the_end_of_the_gateway_cuts_it(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            client = await self.join(stage)
            await stage.gateway.drain(0)
            assert await client.was_cut()
            assert await service.over == "reset"


class TestRawTcpOverWebSocket:
    async def join(self, stage: Stage, **options: object) -> ClientConnection:
        return await connect(
            f"ws://127.0.0.1:{stage.port}/t/home/cam/ssh",
            additional_headers={"Authorization": "Bearer hp_caller"},
            proxy=None,
            **options,  # type: ignore[arg-type]
        )

    async def test_binary_messages_are_bytes(self) -> None:
        async with Stage(ssh=Raw(b"hello", http=False)) as stage, await self.join(stage) as socket:
            assert await socket.recv() == b"hello"
            await socket.send([b"frag", b"men", b"ted"])
            received = b""
            while len(received) < 10:
                piece = await socket.recv()
                assert isinstance(piece, bytes)
                received += piece
            assert received == b"fragmented"

    async def test_megabytes_pass(self) -> None:
        body = bytes(range(256)) * 12_000
        async with Stage(ssh=Raw(http=False)) as stage, await self.join(stage) as socket:

            async def write() -> None:
                for at in range(0, len(body), 100_000):
                    await socket.send(body[at : at + 100_000])

            writing = asyncio.ensure_future(write())
            digest, size = hashlib.sha256(), 0
            while size < len(body):
                piece = await socket.recv()
                assert isinstance(piece, bytes)
                digest.update(piece)
                size += len(piece)
            await writing
            assert digest.digest() == hashlib.sha256(body).digest()

    @pytest.mark.parametrize(("offered", "chosen"), [(["binary"], "binary"), (["x", "homeport-tcp"], "homeport-tcp")])
    async def test_a_known_subprotocol_is_agreed_on(self, offered: list[str], chosen: str) -> None:
        async with Stage(ssh=Raw(http=False)) as stage, await self.join(stage, subprotocols=offered) as socket:
            assert socket.subprotocol == chosen

    async def test_the_services_end_closes_it(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage, await self.join(stage) as socket:
            await service.joined.wait()
            service.side.end()
            await socket.wait_closed()
            assert socket.close_code == CloseCode.NORMAL_CLOSURE

    async def test_the_services_reset_closes_it_with_another_code(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            socket = await self.join(stage)
            await service.joined.wait()
            service.side.reset()
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
            assert socket.close_code == CloseCode.BAD_GATEWAY

    async def test_closing_it_ends_the_stream(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            socket = await self.join(stage)
            await service.joined.wait()
            await socket.close()
            assert await service.over == "end"
            await stage.until(lambda: stage.gateway.statistics().connections == 0)

    async def test_losing_it_resets_the_stream(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            socket = await self.join(stage)
            await service.joined.wait()
            socket.transport.abort()
            assert await service.over == "reset"

    async def test_text_is_refused(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            socket = await self.join(stage)
            await socket.send("text")
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
            assert socket.close_code == CloseCode.UNSUPPORTED_DATA
            assert await service.over == "reset"

    async def test_a_message_that_is_too_long_is_refused(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            socket = await self.join(stage)
            await socket.send(bytes(1024 * 1024 + 1))
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
            assert socket.close_code == CloseCode.MESSAGE_TOO_BIG
            assert await service.over == "reset"

    async def test_frames_that_are_none_are_refused(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            client = await self.raw_client(stage)
            await service.joined.wait()
            await client.send(b"\x82\x05hello")  # not masked
            frame = await client.read(4)
            assert frame[0] == 0x88
            assert int.from_bytes(frame[2:4]) == CloseCode.PROTOCOL_ERROR
            assert await service.over == "reset"

    async def test_it_is_kept_alive_and_has_an_idle_limit(self) -> None:
        service = Raw(http=False)
        async with Stage(ssh=service) as stage:
            client = await self.raw_client(stage)
            await service.joined.wait()
            stage.advance(stage.limits.websocket_ping_interval + 1)
            assert await client.read(2) == b"\x89\x00"
            stage.advance(stage.limits.stream_idle_timeout)
            assert (await client.read(4))[2:] == CloseCode.GOING_AWAY.to_bytes(2)
            assert await service.over == "reset"
            await client.reader.read(100)
            stage.advance(stage.limits.linger_timeout + 1)
            await stage.until(lambda: stage.gateway.statistics().connections == 0)

    async def raw_client(self, stage: Stage) -> Client:
        """A handshake done by hand, for what no client library would send."""
        protocol = ClientProtocol(parse_uri("ws://gw/t/home/cam/ssh"))
        request = protocol.connect()
        request.headers["Authorization"] = "Bearer hp_caller"
        client = await stage.connect()
        await client.send(request.serialize())
        assert (await client.head()).status == 101
        return client

    @pytest.mark.parametrize("bad", ["Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 12", "X: no key at all"])
    async def test_a_bad_handshake_is_refused_before_the_service_is_dialled(self, bad: str) -> None:
        async with Stage(ssh=Raw(http=False)) as stage:
            client = await stage.connect()
            good = ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
            fields = [bad, *(field for field in good if field.split(":")[0] != bad.split(":")[0])]
            fields = fields if bad[0] == "S" else [bad, good[1]]
            await client.send(
                f"GET /t/home/cam/ssh HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: Upgrade\r\nUpgrade: websocket\r\n"
                + "\r\n".join(fields)
                + "\r\n\r\n"
            )
            assert (await client.reply()).code == "bad_request"
            assert stage.relay.opens == []

    async def test_an_error_is_a_plain_response(self) -> None:
        async with Stage() as stage:
            with pytest.raises(InvalidStatus) as caught:
                await self.join(stage)
            assert caught.value.response.status_code == 502
            assert caught.value.response.headers["X-Homeport-Error"] == "service_refused"
