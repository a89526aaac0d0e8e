"""Raw streams through the internal port: real connections, real tunnels, both subprotocols."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from common.tunnel.errors import StreamLostError
from common.tunnel.interfaces import Subprotocol
from tests.contract.devices import flood, keep, refuse
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.wire import connect, open_stream, stream_head

pytestmark = pytest.mark.anyio

BOTH_SUBPROTOCOLS = pytest.mark.parametrize("subprotocol", list(Subprotocol))


@BOTH_SUBPROTOCOLS
async def test_bytes_cross_both_ways(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    await relay.attach("cam", subprotocol=subprotocol)
    async with open_stream(relay) as client:
        for size in (1, 1_000, 300_000):
            client.send(b"x" * size)
            assert await client.read(size) == b"x" * size


@BOTH_SUBPROTOCOLS
async def test_bytes_right_behind_the_head_are_kept(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    await relay.attach("cam", subprotocol=subprotocol)
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay) + b"early")
        assert (await client.read_answer()).status == 101
        assert await client.read(5) == b"early"


@pytest.mark.parametrize("size", [0, 5, 400_000], ids=["nothing", "little", "more than is held"])
async def test_what_comes_while_the_device_thinks_is_kept_and_so_is_its_end(relay: RunningRelay, size: int) -> None:
    kept = keep()
    device = await relay.attach("cam", services={"late": lambda request: None})
    early = bytes(number % 251 for number in range(size))
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay, {"Homeport-Service": "late"}))
        request = await device.wait_request()
        client.send(early)
        client.end()
        # By the time it has answered another connection's request, the relay has read what it wants to.
        async with connect(relay.internal_url) as other:
            other.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await other.read_answer()).status == 200
        kept(request)
        stream, sink = await kept.next()
        assert (await client.read_answer()).status == 101
        assert await sink.wait_eof() == early
        stream.write(b"answer")
        stream.write_eof()
        assert await client.read_end() == b"answer"


@BOTH_SUBPROTOCOLS
async def test_the_client_s_half_close_leaves_the_answer_open(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    kept = keep()
    await relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
    async with open_stream(relay, "keep") as client:
        stream, sink = await kept.next()
        client.send(b"question")
        client.end()
        assert await sink.wait_eof() == b"question"
        stream.write(b"answer")
        stream.write_eof()
        assert await client.read_end() == b"answer"
        assert await sink.wait_lost() is None


@BOTH_SUBPROTOCOLS
async def test_the_device_s_half_close_leaves_the_question_open(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    kept = keep()
    await relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
    async with open_stream(relay, "keep") as client:
        stream, sink = await kept.next()
        stream.write(b"greeting")
        stream.write_eof()
        assert await client.read_end() == b"greeting"
        client.send(b"late word")
        client.end()
        assert await sink.wait_eof() == b"late word"
        assert await sink.wait_lost() is None


@BOTH_SUBPROTOCOLS
async def test_a_reset_by_the_client_reaches_the_device(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    kept = keep()
    await relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
    async with open_stream(relay, "keep") as client:
        _, sink = await kept.next()
        client.reset()
        assert isinstance(await sink.wait_lost(), StreamLostError)
        assert not sink.eof


@BOTH_SUBPROTOCOLS
async def test_a_reset_by_the_device_reaches_the_client(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    kept = keep()
    await relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
    async with open_stream(relay, "keep") as client:
        stream, _ = await kept.next()
        stream.reset()
        with pytest.raises(ConnectionResetError):
            await client.read_end()


async def test_the_loss_of_the_tunnel_is_a_reset(relay: RunningRelay) -> None:
    device = await relay.attach("cam")
    async with open_stream(relay) as client:
        device.close()
        with pytest.raises(ConnectionResetError):
            await client.read_end()


@BOTH_SUBPROTOCOLS
async def test_a_client_that_does_not_read_holds_the_device_and_loses_nothing(
    relay: RunningRelay, subprotocol: Subprotocol
) -> None:
    total = 64 * 1024 * 1024
    flooding = flood(total)
    await relay.attach("cam", services={"flood": flooding}, subprotocol=subprotocol)
    async with open_stream(relay, "flood", receive_buffer=64 * 1024) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            await flooding.held.wait()
        assert flooding.written < total
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert hashlib.sha256(await client.read_end()).digest() == hashlib.sha256(bytes(total)).digest()


async def test_a_device_that_does_not_read_holds_the_client_and_loses_nothing(relay: RunningRelay) -> None:
    kept = keep()
    await relay.attach("cam", services={"keep": kept})
    total = 48 * 1024 * 1024
    async with open_stream(relay, "keep") as client, open_stream(relay, "keep") as other:
        stream, sink = await kept.next()
        other_stream, _ = await kept.next(1)
        stream.pause_reading()
        client.send(bytes(total))
        # The other stream of the same tunnel goes on, and paces the look at what the client still has to send.
        left, unchanged = total + 1, 0
        while unchanged < 50:
            other_stream.write(b"ping")
            assert await other.read(4) == b"ping"
            before, left = left, client.writer.transport.get_write_buffer_size()
            unchanged = unchanged + 1 if left == before else 0
        assert left > total // 2
        stream.resume_reading()
        client.end()
        assert len(await sink.wait_eof()) == total


async def test_a_stream_without_a_byte_is_reset_after_its_idle_timeout(idle_relay: RunningRelay) -> None:
    kept = keep()
    await idle_relay.attach("cam", services={"keep": kept})
    async with open_stream(idle_relay, "keep") as client:
        _, sink = await kept.next()
        with pytest.raises(ConnectionResetError):
            await client.read_end()
        assert isinstance(await sink.wait_lost(), StreamLostError)


async def test_a_client_that_leaves_while_the_device_thinks_takes_its_stream_along(relay: RunningRelay) -> None:
    device = await relay.attach("cam")
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay, {"Homeport-Service": "ignore", "Homeport-Timeout": "300"}))
        request = await device.wait_request()
        given_up = asyncio.Event()
        request.on_lost = given_up.set
        client.reset()
        async with asyncio.timeout(30):
            await given_up.wait()
    assert relay.store.lookup_device_nowait(relay.team, "cam").describe().streams == 0


async def test_many_streams_of_one_tunnel_at_once(relay: RunningRelay) -> None:
    await relay.attach("cam")

    async def one(number: int) -> None:
        async with open_stream(relay) as client:
            message = f"{number}:".encode() * 1_000
            client.send(message)
            assert await client.read(len(message)) == message
            client.end()
            assert await client.read_end() == b""

    async with asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(one(number))
    await relay.until(lambda: relay.store.lookup_device_nowait(relay.team, "cam").describe().streams == 0)


# Refusals


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"Authorization": None}, 401, "unauthenticated"),
        ({"Authorization": "Bearer wrong"}, 401, "unauthenticated"),
        ({"Homeport-Team": "other"}, 404, "no_such_session"),
        ({"Homeport-Team": None}, 400, "bad_request"),
        ({"Homeport-Epoch": "1"}, 409, "session_replaced"),
        ({"Homeport-Service": "refuse"}, 502, "service_refused"),
        ({"Homeport-Service": "unknown"}, 502, "service_refused"),
        ({"Homeport-Service": "ignore", "Homeport-Timeout": "0.05"}, 504, "service_timeout"),
        ({"Upgrade": None}, 426, "upgrade_required"),
        ({"Upgrade": "websocket"}, 426, "upgrade_required"),
        ({"Content-Length": "5"}, 400, "bad_request"),
    ],
    ids=str,
)
async def test_a_refusal_says_why_and_ends_the_connection(
    relay: RunningRelay, changes: dict[str, str | None], status: int, code: str
) -> None:
    await relay.attach("cam")
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay, changes))
        answer = await client.read_answer()
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["connection"] == "close"
        assert ("www-authenticate" in answer.headers) is (status == 401)
        assert (answer.headers.get("upgrade") == "homeport-stream") is (status == 426)
        assert await client.read_end() == b""


async def test_a_refusal_is_json_for_who_asks(relay: RunningRelay) -> None:
    await relay.attach("cam")
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay, {"Accept": "application/json", "Homeport-Service": "refuse"}))
        answer = await client.read_answer()
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.problem["detail"] == "connection refused"


async def test_what_follows_a_refused_request_is_never_read_as_another(relay: RunningRelay) -> None:
    """It would be the first bytes of a stream, in the words of whoever is at the gateway."""
    await relay.attach("cam", services={"refuse": refuse})
    session = relay.store.lookup_device_nowait(relay.team, "cam").session_id
    smuggled = (
        f"DELETE /internal/sessions/{session}?team=home HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {relay.internal_key.reveal()}\r\n\r\n"
    ).encode()
    async with connect(relay.internal_url) as client:
        client.send(stream_head(relay, {"Homeport-Service": "refuse"}) + smuggled)
        assert (await client.read_answer()).code == "service_refused"
        client.send(smuggled)
        client.end()
        assert await client.read_end() == b""
    assert await relay.store.exists(relay.team, session)


async def test_a_refused_client_that_does_not_leave_is_cut(hasty_relay: RunningRelay) -> None:
    await hasty_relay.attach("cam")
    async with connect(hasty_relay.internal_url) as client:
        client.send(stream_head(hasty_relay, {"Homeport-Service": "refuse"}))
        assert (await client.read_answer()).code == "service_refused"
        await client.wait_closed_by_peer()
        await hasty_relay.until(lambda: hasty_relay.metric("internal_pending") == 0)


async def test_a_refused_client_that_goes_on_sending_is_cut(tmp_path: Path) -> None:
    async with running_relay(tmp_path, head_timeout=3600) as patient_relay:
        await patient_relay.attach("cam")
        async with connect(patient_relay.internal_url) as client:
            client.send(stream_head(patient_relay, {"Homeport-Service": "refuse"}))
            assert (await client.read_answer()).code == "service_refused"
            assert patient_relay.metric("internal_pending") == 1
            client.send(bytes(8 * 1024 * 1024))
            await patient_relay.until(lambda: patient_relay.metric("internal_pending") == 0)


async def test_too_many_opens_a_second_are_told_when_to_come_back(slow_relay: RunningRelay) -> None:
    """One is allowed there, and another after a quarter of an hour."""
    await slow_relay.attach("cam")
    async with open_stream(slow_relay), connect(slow_relay.internal_url) as client:
        client.send(stream_head(slow_relay))
        answer = await client.read_answer()
        assert (answer.status, answer.code) == (503, "over_capacity")
        assert 900 < int(answer.headers["retry-after"]) <= 1000
    assert slow_relay.metric("stream_opens_failed_total", code="over_capacity") == 1
