"""What every session store must do, whoever holds the tunnels. Subclass `SessionStoreContract` and give it the fixture
`under_test`; real devices dial a real relay, whichever store is asked.

    class TestInMemoryStore(SessionStoreContract):
        @pytest.fixture
        async def under_test(self, tmp_path):
            async with running_relay(tmp_path, **RELAY_SETTINGS) as relay:
                yield StoreUnderTest(relay=relay, store=relay.store, holds_tunnels=True)
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from common.ids import ServiceName, SessionId, TeamId, new_session_id
from common.sessions.errors import (
    DeviceOfflineError,
    DrainingError,
    InvalidCursorError,
    NotSupportedError,
    OverCapacityError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
    SessionReplacedError,
    SessionStoreError,
)
from common.sessions.interfaces import OpenOptions, Page, SessionState, Store, Summary
from common.tunnel.errors import StreamLostError
from common.tunnel.interfaces import Subprotocol
from tests.contract.devices import echo, flood, keep
from tests.contract.relay_fixture import RunningRelay
from tests.contract.sinks import CountingSink, RecordingSink

__all__ = ["RELAY_SETTINGS", "SessionStoreContract", "StoreUnderTest"]

MAX_STREAMS = 16
RELAY_SETTINGS = {"max_streams_per_tunnel": MAX_STREAMS}
"""What the suite's relay is started with."""

HOME = TeamId("home")
OTHER = TeamId("other")
ECHO = ServiceName("echo")
KEEP = ServiceName("keep")

BOTH_SUBPROTOCOLS = pytest.mark.parametrize("subprotocol", list(Subprotocol))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUnderTest:
    """A store, and the relay that its sessions live on."""

    relay: RunningRelay
    store: Store
    holds_tunnels: bool
    """Whether it is the relay's own: then it registers, and hears heartbeats."""

    async def summary(self, device: str = "cam", team: TeamId = HOME) -> Summary:
        """The device's session."""
        return await (await self.store.lookup_device(team, device)).summary()

    async def open(
        self, service: ServiceName = ECHO, options: OpenOptions | None = None, device: str = "cam"
    ) -> tuple[Any, RecordingSink]:
        """A stream to a service of the device, and its sink."""
        handle = await self.store.lookup_device(HOME, device)
        sink = RecordingSink()
        return await handle.open_stream(service, sink, options or OpenOptions()), sink


class SessionStoreContract:
    """The suite."""

    # Look-ups

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_device_that_dialled_in_is_found_by_session_id_device_id_and_name(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        await under_test.relay.attach("cam", name="porch", subprotocol=subprotocol)
        by_id = await under_test.store.lookup_device(HOME, "cam")
        by_name = await under_test.store.lookup_device(HOME, "porch")
        by_session = await under_test.store.lookup(HOME, by_id.session_id)
        assert by_id.session_id == by_name.session_id == by_session.session_id
        assert by_id.epoch == by_name.epoch == by_session.epoch
        assert await under_test.store.exists(HOME, by_id.session_id)

    @pytest.mark.anyio
    async def test_a_summary_tells_what_the_token_and_the_device_said(self, under_test: StoreUnderTest) -> None:
        await under_test.relay.attach("cam", name="porch", services={"web": echo, "ssh": echo})
        await self.until(under_test, lambda summary: len(summary.services) == 2)
        summary = await under_test.summary()
        assert (summary.device, summary.device_name, summary.team) == ("cam", "porch", HOME)
        assert (summary.relay, summary.subprotocol) == ("test-relay", "homeport.v1")
        assert summary.agent_version == "test-device/1.0"
        assert summary.services == {"web": "healthy", "ssh": "healthy"}
        assert summary.state is SessionState.HEALTHY
        assert summary.connected_at <= summary.last_heartbeat
        assert summary.remote_address.startswith("127.0.0.1:")

    @pytest.mark.anyio
    async def test_a_session_that_is_not_there_is_not_found(self, under_test: StoreUnderTest) -> None:
        unknown = new_session_id()
        with pytest.raises(SessionNotFoundError):
            await under_test.store.lookup(HOME, unknown)
        with pytest.raises(DeviceOfflineError):
            await under_test.store.lookup_device(HOME, "cam")
        assert not await under_test.store.exists(HOME, unknown)

    @pytest.mark.parametrize("odd", ["", "x", "ses_", "../../healthz", "ses_" + "0" * 33, "ses_0?team=home", "%2e%2e"])
    @pytest.mark.anyio
    async def test_an_id_of_any_shape_is_not_found(self, under_test: StoreUnderTest, odd: str) -> None:
        with pytest.raises(SessionNotFoundError):
            await under_test.store.lookup(HOME, SessionId(odd))
        assert not await under_test.store.exists(HOME, SessionId(odd))
        assert not await under_test.store.unregister(HOME, SessionId(odd))

    @pytest.mark.parametrize("odd", ["", "no such device", "d/../e", "a&team=other", "%00"])
    @pytest.mark.anyio
    async def test_a_device_of_any_name_is_offline(self, under_test: StoreUnderTest, odd: str) -> None:
        with pytest.raises(DeviceOfflineError):
            await under_test.store.lookup_device(HOME, odd)

    @pytest.mark.anyio
    async def test_another_team_finds_nothing_and_ends_nothing(self, under_test: StoreUnderTest) -> None:
        await under_test.relay.attach("cam")
        session_id = (await under_test.summary()).id
        with pytest.raises(SessionNotFoundError):
            await under_test.store.lookup(OTHER, session_id)
        with pytest.raises(DeviceOfflineError):
            await under_test.store.lookup_device(OTHER, "cam")
        assert not await under_test.store.exists(OTHER, session_id)
        assert (await under_test.store.list(OTHER)).items == []
        assert not await under_test.store.unregister(OTHER, session_id)
        assert await under_test.store.exists(HOME, session_id)

    @pytest.mark.anyio
    async def test_a_session_that_ended_is_gone(self, under_test: StoreUnderTest) -> None:
        device = await under_test.relay.attach("cam")
        handle = await under_test.store.lookup_device(HOME, "cam")
        device.close()
        await self.until_offline(under_test, "cam")
        assert not await under_test.store.exists(HOME, handle.session_id)
        with pytest.raises(SessionNotFoundError):
            await handle.summary()
        with pytest.raises(SessionNotFoundError):
            await handle.open_stream(ECHO, RecordingSink())

    # Lists

    @pytest.mark.parametrize("limit", [1, 2, 5, 100])
    @pytest.mark.anyio
    async def test_pages_list_each_session_of_the_team_once(self, under_test: StoreUnderTest, limit: int) -> None:
        for number in range(5):
            await under_test.relay.attach(f"cam{number}")
        await under_test.relay.attach("foreign", team=OTHER)
        listed: list[Summary] = []
        page = Page(items=[], next=None)
        while True:
            page = await under_test.store.list(HOME, limit=limit, cursor=page.next)
            assert len(page.items) <= limit
            listed += page.items
            if page.next is None:
                break
        assert [summary.id for summary in listed] == sorted({summary.id for summary in listed})
        assert {summary.device for summary in listed} == {f"cam{number}" for number in range(5)}

    @pytest.mark.anyio
    async def test_a_team_without_sessions_has_an_empty_page(self, under_test: StoreUnderTest) -> None:
        assert await under_test.store.list(HOME) == Page(items=[], next=None)

    @pytest.mark.anyio
    async def test_a_cursor_that_no_page_gave_is_refused(self, under_test: StoreUnderTest) -> None:
        with pytest.raises(InvalidCursorError):
            await under_test.store.list(HOME, cursor="elsewhere")

    # Ending

    @pytest.mark.anyio
    async def test_unregister_ends_the_tunnel_and_its_streams(self, under_test: StoreUnderTest) -> None:
        device = await under_test.relay.attach("cam")
        stream, sink = await under_test.open()
        stream.write(b"hello")
        await sink.wait_received(b"hello")
        session_id = (await under_test.summary()).id
        assert await under_test.store.unregister(HOME, session_id)
        assert not await under_test.store.exists(HOME, session_id)
        assert await device.wait_lost() == "closed_by_operator"
        assert await sink.wait_lost() is not None
        assert not await under_test.store.unregister(HOME, session_id)

    @pytest.mark.anyio
    async def test_unregister_of_another_epoch_ends_nothing(self, under_test: StoreUnderTest) -> None:
        await under_test.relay.attach("cam")
        summary = await under_test.summary()
        assert not await under_test.store.unregister(HOME, summary.id, summary.epoch + 1)
        assert not await under_test.store.unregister(HOME, summary.id, summary.epoch - 1)
        assert await under_test.store.exists(HOME, summary.id)
        assert await under_test.store.unregister(HOME, summary.id, summary.epoch)

    @pytest.mark.anyio
    async def test_unregister_of_what_is_not_there_is_no_error(self, under_test: StoreUnderTest) -> None:
        assert not await under_test.store.unregister(HOME, new_session_id())

    # Take-over

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_newer_session_of_the_device_takes_over(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        older = await under_test.relay.attach("cam", subprotocol=subprotocol)
        before = await under_test.store.lookup_device(HOME, "cam")
        newer = await under_test.relay.attach("cam", subprotocol=subprotocol)
        after = await under_test.store.lookup_device(HOME, "cam")
        assert after.session_id != before.session_id
        assert after.epoch > before.epoch
        assert await older.wait_lost() == "replaced"
        assert newer.lost is None
        assert not await under_test.store.exists(HOME, before.session_id)
        assert [summary.id for summary in (await under_test.store.list(HOME)).items] == [after.session_id]
        with pytest.raises(SessionStoreError) as caught:
            await before.open_stream(ECHO, RecordingSink())
        assert isinstance(caught.value, SessionNotFoundError | SessionReplacedError)

    @pytest.mark.anyio
    async def test_the_late_clean_up_of_the_older_session_leaves_the_newer_one(
        self, under_test: StoreUnderTest
    ) -> None:
        older = await under_test.relay.attach("cam")
        before = await under_test.summary()
        await under_test.relay.attach("cam")
        assert not await under_test.store.unregister(HOME, before.id, before.epoch)
        await older.wait_lost()
        stream, sink = await under_test.open()
        stream.write(b"still here")
        await sink.wait_received(b"still here")

    @pytest.mark.anyio
    async def test_a_stream_is_not_opened_on_another_epoch(self, under_test: StoreUnderTest) -> None:
        await under_test.relay.attach("cam")
        handle = await under_test.store.lookup_device(HOME, "cam")
        with pytest.raises(SessionReplacedError):
            await handle.open_stream(ECHO, RecordingSink(), OpenOptions(epoch=handle.epoch + 1))
        await handle.open_stream(ECHO, RecordingSink(), OpenOptions(epoch=handle.epoch))

    # Streams

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_bytes_cross_both_ways_and_both_ends_end(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        await under_test.relay.attach("cam", subprotocol=subprotocol)
        stream, sink = await under_test.open()
        for piece in (b"a", b"bc" * 1_000, b"d" * 100_000):
            stream.write(piece)
        stream.write_eof()
        assert await sink.wait_eof() == b"a" + b"bc" * 1_000 + b"d" * 100_000
        assert await sink.wait_lost() is None

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_client_that_half_closes_still_hears_the_answer(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        kept = keep()
        await under_test.relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
        stream, sink = await under_test.open(KEEP)
        stream.write(b"question")
        stream.write_eof()
        device_stream, device_sink = await kept.next()
        assert await device_sink.wait_eof() == b"question"
        assert not sink.eof
        device_stream.write(b"answer")
        device_stream.write_eof()
        assert await sink.wait_eof() == b"answer"
        assert await sink.wait_lost() is None
        assert await device_sink.wait_lost() is None

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_device_that_half_closes_is_still_heard(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        kept = keep()
        await under_test.relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
        stream, sink = await under_test.open(KEEP)
        device_stream, device_sink = await kept.next()
        device_stream.write(b"greeting")
        device_stream.write_eof()
        assert await sink.wait_eof() == b"greeting"
        assert not sink.lost
        stream.write(b"late word")
        stream.write_eof()
        assert await device_sink.wait_eof() == b"late word"
        assert await sink.wait_lost() is None

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_reset_by_the_client_reaches_the_device(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        kept = keep()
        await under_test.relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
        stream, sink = await under_test.open(KEEP)
        _, device_sink = await kept.next()
        stream.reset()
        assert isinstance(await device_sink.wait_lost(), StreamLostError)
        assert await sink.wait_lost() is not None

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_reset_by_the_device_reaches_the_client(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        kept = keep()
        await under_test.relay.attach("cam", services={"keep": kept}, subprotocol=subprotocol)
        _, sink = await under_test.open(KEEP)
        device_stream, _ = await kept.next()
        device_stream.reset()
        assert await sink.wait_lost() is not None

    @pytest.mark.anyio
    async def test_the_loss_of_the_tunnel_reaches_the_client(self, under_test: StoreUnderTest) -> None:
        kept = keep()
        device = await under_test.relay.attach("cam", services={"keep": kept})
        _, sink = await under_test.open(KEEP)
        await kept.next()
        device.close()
        assert await sink.wait_lost() is not None

    @pytest.mark.anyio
    async def test_bytes_that_the_device_sends_with_its_answer_are_not_lost(self, under_test: StoreUnderTest) -> None:
        await under_test.relay.attach("cam", services={"flood": flood(10)})
        _, sink = await under_test.open(ServiceName("flood"))
        assert await sink.wait_eof() == bytes(10)

    @BOTH_SUBPROTOCOLS
    @pytest.mark.anyio
    async def test_a_reader_that_pauses_holds_the_device_and_loses_nothing(
        self, under_test: StoreUnderTest, subprotocol: Subprotocol
    ) -> None:
        """More than every buffer and window on the way holds, so that the device must feel it."""
        total = 64 * 1024 * 1024
        flooding = flood(total)
        await under_test.relay.attach("cam", services={"flood": flooding}, subprotocol=subprotocol)
        handle = await under_test.store.lookup_device(HOME, "cam")

        sink = CountingSink()
        stream = await handle.open_stream(ServiceName("flood"), sink)
        stream.pause_reading()
        async with asyncio.timeout(30):
            await flooding.held.wait()
        assert flooding.written < total
        stream.resume_reading()
        await sink.wait_eof()
        assert sink.length == total
        assert sink.digest == hashlib.sha256(bytes(total)).digest()

    @pytest.mark.anyio
    async def test_a_device_that_does_not_read_holds_the_writer(self, under_test: StoreUnderTest) -> None:
        kept = keep()
        await under_test.relay.attach("cam", services={"keep": kept})
        stream, sink = await under_test.open(KEEP)
        device_stream, device_sink = await kept.next()
        device_stream.pause_reading()
        written = 0
        piece = bytes(64 * 1024)
        while not sink.paused:
            stream.write(piece)
            written += len(piece)
            assert written < 256 * 1024 * 1024
            await asyncio.sleep(0)
        device_stream.resume_reading()
        await sink.until(lambda sink: not sink.paused)
        stream.write_eof()
        assert len(await device_sink.wait_eof()) == written

    # Opens that fail

    @pytest.mark.parametrize("service", ["refuse", "no-such-service"])
    @pytest.mark.anyio
    async def test_an_open_that_the_device_refuses(self, under_test: StoreUnderTest, service: str) -> None:
        await under_test.relay.attach("cam")
        with pytest.raises(ServiceRefusedError) as caught:
            await under_test.open(ServiceName(service))
        assert caught.value.detail
        await under_test.open()

    @pytest.mark.anyio
    async def test_a_raw_device_has_one_service(self, under_test: StoreUnderTest) -> None:
        await under_test.relay.attach("cam", subprotocol=Subprotocol.YAMUX)
        with pytest.raises(ServiceRefusedError):
            await under_test.open(ServiceName("ssh"))

    @pytest.mark.anyio
    async def test_an_open_that_nobody_answers_times_out(self, under_test: StoreUnderTest) -> None:
        device = await under_test.relay.attach("cam")
        with pytest.raises(ServiceTimeoutError):
            await under_test.open(ServiceName("ignore"), OpenOptions(timeout=0.05))
        request = await device.wait_request()
        assert request.timeout == pytest.approx(0.05)

    @pytest.mark.anyio
    async def test_an_open_that_was_cancelled_leaves_no_stream(self, under_test: StoreUnderTest) -> None:
        device = await under_test.relay.attach("cam")
        opening = asyncio.ensure_future(under_test.open(ServiceName("ignore"), OpenOptions(timeout=300)))
        request = await device.wait_request()
        given_up = asyncio.Event()
        request.on_lost = given_up.set
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with asyncio.timeout(30):
            await given_up.wait()

    @pytest.mark.anyio
    async def test_the_trace_context_reaches_the_device(self, under_test: StoreUnderTest) -> None:
        device = await under_test.relay.attach("cam")
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await under_test.open(options=OpenOptions(traceparent=traceparent))
        assert (await device.wait_request()).traceparent == traceparent

    @pytest.mark.anyio
    async def test_a_session_that_drains_takes_no_new_streams_and_keeps_its_own(
        self, under_test: StoreUnderTest
    ) -> None:
        device = await under_test.relay.attach("cam")
        stream, sink = await under_test.open()
        assert device.tunnel is not None
        device.tunnel.drain()
        await self.until(under_test, lambda summary: summary.state is SessionState.DRAINING)
        with pytest.raises(DrainingError):
            await under_test.open()
        stream.write(b"to the end")
        stream.write_eof()
        assert await sink.wait_eof() == b"to the end"

    @pytest.mark.anyio
    async def test_too_many_streams_are_refused_and_one_that_ends_makes_room(self, under_test: StoreUnderTest) -> None:
        kept = keep()
        await under_test.relay.attach("cam", services={"keep": kept})
        handle = await under_test.store.lookup_device(HOME, "cam")
        # The control stream is one of them.
        streams = [await handle.open_stream(KEEP, RecordingSink()) for _ in range(MAX_STREAMS - 1)]
        with pytest.raises(OverCapacityError) as caught:
            await handle.open_stream(KEEP, RecordingSink())
        assert caught.value.retry_after
        streams[0].reset()
        await (await kept.next(0))[1].wait_lost()
        await handle.open_stream(KEEP, RecordingSink())

    # What only a store that holds the tunnels can do

    @pytest.mark.anyio
    async def test_register_heartbeat_and_clean_up_are_for_the_store_that_holds_the_tunnels(
        self, under_test: StoreUnderTest
    ) -> None:
        await under_test.relay.attach("cam")
        summary = await under_test.summary()
        tunnel = under_test.relay.store.lookup_nowait(HOME, summary.id)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: under_test.store.register(tunnel),
            lambda: under_test.store.heartbeat(HOME, summary.id, summary.epoch),
            under_test.store.cleanup_expired,
        ]
        for call in calls:
            if under_test.holds_tunnels:
                await call()
            else:
                with pytest.raises(NotSupportedError):
                    await call()
        assert await under_test.store.exists(HOME, summary.id)

    # Waiting

    async def until(self, under_test: StoreUnderTest, condition: Callable[[Summary], bool]) -> None:
        """Wait until the session of `cam` is as `condition` wants it; each change of it is an event of the relay."""
        changed = asyncio.Event()
        unlisten = under_test.relay.relay.events.listen(changed.set)
        try:
            async with asyncio.timeout(30):
                while not condition(await under_test.summary()):
                    await changed.wait()
                    changed.clear()
        finally:
            unlisten()

    async def until_offline(self, under_test: StoreUnderTest, device: str) -> None:
        """Wait until the device has no session."""
        changed = asyncio.Event()
        unlisten = under_test.relay.relay.events.listen(changed.set)
        try:
            async with asyncio.timeout(30):
                while True:
                    try:
                        await under_test.store.lookup_device(HOME, device)
                    except DeviceOfflineError:
                        return
                    await changed.wait()
                    changed.clear()
        finally:
            unlisten()
