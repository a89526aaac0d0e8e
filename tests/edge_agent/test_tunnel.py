"""The whole agent against a relay that the test plays: streams, services, floods, ends."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.tunnel.errors import OpenLimitError, OpenRefusedError, StreamLostError, TunnelLostError
from common.tunnel.stream import ResetCode
from tests.edge_agent.relay import RelayStream, relay
from tests.edge_agent.running import TOKEN, running_agent
from tests.edge_agent.services import echo, refusing_port, reset, serve

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def offer(name: str, port: int) -> str:
    """A service whose health is not checked, so that the only connections it sees are streams."""
    return f"{name}=tcp://127.0.0.1:{port}?health=off"


async def test_it_dials_says_hello_and_serves(tmp_path: Path) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        running_agent(
            tmp_path, r.url(), f"web=http://127.0.0.1:{port}?health=off", f"ssh=tcp://127.0.0.1:{port}"
        ) as running,
    ):
        session = await r.session()
        assert session.request.token.reveal() == TOKEN
        assert session.request.subprotocol == "homeport.v1"
        assert session.hello is not None
        assert session.hello.software.startswith("homeport-agent/")
        assert [(s.name, s.kind) for s in session.hello.services] == [("web", "http"), ("ssh", "tcp")]
        await session.until(lambda: session.services[-1] == {"web": "unknown", "ssh": "healthy"})
        stream = await session.open("web")
        stream.write(b"hello")
        assert await stream.receive(5) == b"hello"
        stream.write_eof()
        assert await stream.receive_all() == b""
        assert await stream.lost() is None
        assert running.log.fields("connected")["session"] == "ses_1"
        assert TOKEN not in repr(running.log.lines)


async def test_what_is_not_on_the_list_is_refused_and_the_tunnel_lives(tmp_path: Path) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), f"web=http://127.0.0.1:{port}", f"down=tcp://127.0.0.1:{refusing_port()}"),
    ):
        session = await r.session()
        for name in ("ssh", f"127.0.0.1:{port}", f"tcp://127.0.0.1:{port}", "WEB", "\0", "web "):
            with pytest.raises(OpenRefusedError) as caught:
                await session.open(name)
            assert caught.value.reason == "unknown_service"
        with pytest.raises(OpenRefusedError) as caught:
            await session.open("down")
        assert caught.value.reason == "connection_refused"
        stream = await session.open("web")
        stream.write(b"still here")
        assert await stream.receive(10) == b"still here"


async def test_large_transfers_both_ways_arrive_whole(tmp_path: Path) -> None:
    blob = random.Random(1).randbytes(24 * MIB)
    async with serve(echo) as port, relay() as r, running_agent(tmp_path, r.url(), offer("web", port)):
        stream = await (await r.session()).open("web")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, blob)
            received = await stream.receive(len(blob))
        assert hashlib.sha256(received).digest() == hashlib.sha256(blob).digest()


async def test_many_streams_at_once_do_not_mix(tmp_path: Path) -> None:
    async with serve(echo) as port, relay() as r, running_agent(tmp_path, r.url(), offer("web", port)):
        session = await r.session()
        streams: list[RelayStream] = []

        async def open_one() -> None:
            streams.append(await session.open("web"))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(open_one)

        async def exchange(number: int, stream: RelayStream) -> None:
            blob = random.Random(number).randbytes(100_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send, blob, 7_000)
                assert await stream.receive(len(blob)) == blob
            stream.write_eof()
            assert await stream.receive_all() == b""

        async with trio.open_nursery() as nursery:
            for number, stream in enumerate(streams):
                nursery.start_soon(exchange, number, stream)


async def test_a_slow_service_does_not_stall_another_stream(tmp_path: Path) -> None:
    async def deaf(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with (
        serve(deaf) as deaf_port,
        serve(echo) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), offer("slow", deaf_port), offer("web", port)),
    ):
        session = await r.session()
        slow = await session.open("slow")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send, bytes(64 * MIB))
            await wait_all_tasks_blocked()
            assert session.tunnel is not None
            stuck = session.tunnel.statistics().bytes_out
            assert stuck < 32 * MIB, "the agent took what its service did not"
            web = await session.open("web")
            blob = random.Random(2).randbytes(4 * MIB)
            nursery.start_soon(web.send, blob)
            assert await web.receive(len(blob)) == blob
            assert session.tunnel.statistics().bytes_out - stuck < 5 * MIB
            nursery.cancel_scope.cancel()


async def test_a_slow_client_does_not_stall_another_stream(tmp_path: Path) -> None:
    async def flood(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(bytes(MIB))

    async with (
        serve(flood) as flood_port,
        serve(echo) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), offer("flood", flood_port), offer("web", port)) as running,
    ):
        session = await r.session()
        slow = await session.open("flood")
        slow.pause()
        await wait_all_tasks_blocked()
        web = await session.open("web")
        web.write(b"quick")
        assert await web.receive(5) == b"quick"
        assert running.agent.statistics().bytes_out < 16 * MIB
        slow.resume()
        await slow.receive(40 * MIB)


@pytest.mark.parametrize("code", [ResetCode.CANCELLED, ResetCode.TIMEOUT])
async def test_a_reset_by_the_relay_reaches_the_service(tmp_path: Path, code: ResetCode) -> None:
    seen: list[BaseException] = []
    gone = trio.Event()

    async def watch(stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError as exc:
            seen.append(exc)
        gone.set()

    async with serve(watch) as port, relay() as r, running_agent(tmp_path, r.url(), offer("web", port)):
        stream = await (await r.session()).open("web")
        stream.write(b"hello")
        assert await stream.receive(5) == b"hello"
        stream.reset(code)
        await gone.wait()
        assert seen, "the service saw an orderly end of a stream that was cut"


async def test_a_reset_by_the_service_reaches_the_relay(tmp_path: Path) -> None:
    async def cut(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"half an ans")
        reset(stream)

    async with serve(cut) as port, relay() as r, running_agent(tmp_path, r.url(), offer("web", port)):
        stream = await (await r.session()).open("web")
        stream.write(b"hello")
        error = await stream.lost()
        assert isinstance(error, StreamLostError)
        assert not stream.eof
        assert stream.received == b"half an ans"


async def test_the_answer_to_an_upload_that_the_service_refuses_arrives(tmp_path: Path) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\n\r\n")
        await stream.send_eof()
        await stream.aclose()  # with unread bytes: the kernel sends RST

    async with serve(refuse) as port, relay() as r, running_agent(tmp_path, r.url(), offer("web", port)):
        stream = await (await r.session()).open("web")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, bytes(8 * MIB))
            assert await stream.receive(26) == b"HTTP/1.1 413 Too Large\r\n\r\n"


async def test_half_close_crosses_both_ways(tmp_path: Path) -> None:
    async def digest(stream: trio.SocketStream) -> None:
        sha = hashlib.sha256()
        async for data in stream:
            sha.update(data)
        await stream.send_all(sha.hexdigest().encode())

    blob = random.Random(3).randbytes(3 * MIB)
    async with serve(digest) as port, relay() as r, running_agent(tmp_path, r.url(), offer("web", port)):
        stream = await (await r.session()).open("web")
        await stream.send(blob)
        stream.write_eof()
        assert (await stream.receive_all()).decode() == hashlib.sha256(blob).hexdigest()


async def test_a_lost_tunnel_resets_the_services_and_a_new_one_comes(tmp_path: Path) -> None:
    ends: list[str] = []

    async def watch(stream: trio.SocketStream) -> None:
        try:
            async for _ in stream:
                pass
            ends.append("end of file")
        except trio.BrokenResourceError:
            ends.append("reset")

    async with (
        serve(watch) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), offer("web", port)) as running,
    ):
        session = await r.session()
        stream = await session.open("web")
        assert session.tunnel is not None
        session.tunnel.close("closed_by_operator")
        assert isinstance(await stream.lost(), StreamLostError)
        second = await r.session(2)
        assert ends == ["reset"]
        assert running.log.fields("lost")["reason"] == "closed_by_operator"
        again = await second.open("web")
        again.write_eof()
        assert await again.receive_all() == b""


async def test_a_flood_of_opens_is_limited_and_the_agent_goes_on(tmp_path: Path) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with (
        serve(silent) as silent_port,
        serve(echo) as port,
        relay() as r,
        running_agent(
            tmp_path,
            r.url(),
            offer("silent", silent_port),
            offer("web", port),
            max_streams=50,
        ) as running,
    ):
        session = await r.session()
        streams: list[RelayStream] = []
        refused: list[str] = []

        async def open_one() -> None:
            try:
                streams.append(await session.open("silent"))
            except OpenRefusedError as exc:
                refused.append(exc.reason)
            except OpenLimitError:  # beyond what the agent answers one by one
                refused.append("over_capacity")

        for _ in range(4):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(open_one)
        assert len(streams) == 50
        assert set(refused) == {"over_capacity"}
        assert running.agent.statistics().streams.streams == 50
        streams.pop().reset()
        await wait_all_tasks_blocked()
        web = await session.open("web")
        web.write(b"room again")
        assert await web.receive(10) == b"room again"


async def test_a_drain_of_the_relay_moves_new_streams_and_lets_old_ones_end(tmp_path: Path) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), offer("web", port)) as running,
    ):
        first = await r.session()
        old = await first.open("web")
        assert first.tunnel is not None
        started = trio.current_time()
        first.tunnel.drain(reconnect_after=3.0)
        second = await r.session(2)
        assert 3 <= trio.current_time() - started <= 4.1
        new = await second.open("web")
        for stream in (old, new):
            stream.write(b"both live")
            assert await stream.receive(9) == b"both live"
        old.write_eof()
        assert await old.receive_all() == b""
        await first.until(lambda: first.drained)
        first.tunnel.close("draining")
        await first.until(lambda: first.error is not None)
        await wait_all_tasks_blocked()
        assert running.agent.statistics().tunnels == 1
        assert running.log.fields("drained tunnel ended")["reason"] == "draining"


async def test_a_stop_drains_and_the_relay_hears_of_it(tmp_path: Path) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), offer("web", port)) as running,
    ):
        session = await r.session()
        stream = await session.open("web")
        running.agent.stop()
        await session.until(lambda: session.drain is not None)
        stream.write(b"last words")
        assert await stream.receive(10) == b"last words"
        stream.write_eof()
        assert await stream.receive_all() == b""
        assert await running.end() == 0
        await session.until(lambda: session.error is not None)
        assert isinstance(session.error, TunnelLostError)
        assert (session.error.reason, session.error.by_peer) == ("draining", True)


async def test_figures_and_health_reach_the_relay(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url(), f"web=tcp://127.0.0.1:{refusing_port()}"):
        session = await r.session()
        await session.until(lambda: session.services[-1] == {"web": "unhealthy"})
        await session.until(lambda: bool(session.stats))
        assert session.stats[0].uptime == 30


async def test_a_quiet_tunnel_lives_as_long_as_its_probes_are_answered(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url()) as running:
        await r.session()
        await trio.sleep(1000)
        assert len(r.sessions) == 1
        assert running.agent.statistics().session_id == "ses_1"


async def test_nothing_is_left_of_streams_that_have_ended(tmp_path: Path) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        running_agent(tmp_path, r.url(), offer("web", port)) as running,
    ):
        session = await r.session()

        async def use(number: int) -> None:
            stream = await session.open("web")
            stream.write(b"hello")
            assert await stream.receive(5) == b"hello"
            if number % 2:
                stream.reset()
            else:
                stream.write_eof()
            await stream.lost()

        before = None
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(use, number)
            await wait_all_tasks_blocked()
            # What is lost to the first round (imports, buffers of the loop) is not lost to each.
            left = len(list(Path("/proc/self/fd").iterdir())), trio.lowlevel.current_statistics().tasks_living
            before = before or left
            assert left == before
        assert running.agent.statistics().streams.accepted == 250
        assert running.agent.statistics().streams.streams == 0
