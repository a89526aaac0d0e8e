"""`GET /internal/events`, read as the API server reads it: line by line, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.wire.messages import Service
from tests.contract.relay_fixture import RunningRelay, running_relay

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two empty lines."""

    id: str | None
    event: str | None
    data: dict[str, Any] | None


class Reader:
    """A reader of the feed."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def block(self) -> Block:
        """The next block that is not only a comment."""
        async with asyncio.timeout(30):
            fields: dict[str, str] = {}
            async for line in self._lines:
                if not line and fields:
                    data = fields.get("data")
                    return Block(fields.get("id"), fields.get("event"), json.loads(data) if data else None)
                name, _, value = line.partition(": ")
                if name and not line.startswith(":"):
                    fields[name] = value
        raise EOFError

    async def event(self) -> dict[str, Any]:
        """The next event."""
        block = await self.block()
        assert block.data is not None
        assert block.event == block.data["type"]
        assert block.id == block.data["id"]
        return block.data


@contextlib.asynccontextmanager
async def feed(
    relay: RunningRelay, last_event_id: str | None = None, *, notices: bool = False
) -> AsyncIterator[Reader]:
    headers = {"Authorization": f"Bearer {relay.internal_key.reveal()}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    async with (
        httpx.AsyncClient(base_url=relay.internal_url, headers=headers, trust_env=False, verify=False) as client,
        client.stream("GET", "/internal/events", params={"notices": "true"} if notices else {}) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield Reader(answer.aiter_lines())


async def test_online_updated_and_offline(relay: RunningRelay) -> None:
    async with feed(relay) as reader:
        first = await reader.block()
        assert first.id
        assert first.data is None
        device = await relay.attach("cam", name="porch")
        online = await reader.event()
        assert (online["type"], online["team"]) == ("session.online", "home")
        assert (online["session"]["device"], online["session"]["device_name"]) == ("cam", "porch")
        updated = await reader.event()
        assert updated["type"] == "session.updated"
        assert set(updated["session"]["services"]) == {"echo", "ignore", "refuse", "reset", "swallow"}
        device.close()
        offline = await reader.event()
        assert offline["type"] == "session.offline"
        assert offline["reason"] == "closed_by_device"
        assert offline["session"]["state"] == "draining"


async def test_a_service_that_falls_ill_degrades_the_session_and_heals_it(relay: RunningRelay) -> None:
    device = await relay.attach("cam")
    assert device.tunnel is not None
    await relay.until(lambda: relay.relay.events.last == 2)
    async with feed(relay) as reader:
        await reader.block()
        for health, state in (("unhealthy", "degraded"), ("healthy", "healthy")):
            device.tunnel.update_services([Service(name="echo", health=health)])
            event = await reader.event()
            assert event["session"]["services"] == {"echo": health}
            assert event["session"]["state"] == state


async def test_a_device_that_changes_all_the_time_does_not_flood_the_feed(tmp_path: Path) -> None:
    """What it says last is told in the end, by a sweep."""
    async with running_relay(tmp_path, probe_interval=3_000, dead_after=4_000) as relay:
        device = await relay.attach("cam")
        assert device.tunnel is not None
        for number in range(150):  # fewer than the limit on control messages lets through at once
            device.tunnel.update_services([Service(name=f"service-{number}", health="healthy")])
        session = relay.store.lookup_device_nowait(relay.team, "cam")
        await relay.until(lambda: "service-149" in session.describe().services)
        assert relay.relay.events.last <= 15
        await relay.relay.sweep()
        events = relay.relay.events.after(0, limit=100)
        assert events[-1].session.services == {"service-149": "healthy"}


async def test_names_and_words_of_a_device_that_are_none_are_not_passed_on(relay: RunningRelay) -> None:
    device = await relay.attach("cam")
    assert device.tunnel is not None
    await relay.until(lambda: relay.relay.events.last == 2)
    async with feed(relay) as reader:
        await reader.block()
        device.tunnel.update_services(
            [Service(name="web", health="\x1b[31mred"), Service(name="\x1b[2J"), Service(name="No Name")]
        )
        assert (await reader.event())["session"]["services"] == {"web": "unknown"}


async def test_a_reader_that_comes_back_gets_what_it_missed(relay: RunningRelay) -> None:
    async with feed(relay) as reader:
        start = (await reader.block()).id
        await relay.attach("cam")
        online = await reader.event()
    await relay.attach("door")
    async with feed(relay, online["id"]) as reader:
        seen = [await reader.event() for _ in range(3)]
        assert [event["session"]["device"] for event in seen] == ["cam", "door", "door"]
    async with feed(relay, start) as reader:
        assert await reader.event() == online


@pytest.mark.parametrize("last_event_id", ["", "0", "deadbeef-1", "x" * 4_000])
async def test_a_reader_of_another_process_is_told_to_begin_anew(relay: RunningRelay, last_event_id: str) -> None:
    await relay.attach("cam")
    await relay.until(lambda: relay.relay.events.last == 2)
    async with feed(relay, last_event_id) as reader:
        block = await reader.block()
        assert block.event == "reset"
        assert block.data == {"type": "reset", "id": block.id}
        assert block.id == relay.relay.events.id_of(2)
        await relay.attach("door")
        assert (await reader.event())["session"]["device"] == "door"


async def test_a_reader_that_fell_out_of_the_ring_is_told_to_begin_anew(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_events=3) as relay:
        async with feed(relay) as reader:
            start = (await reader.block()).id
        for number in range(3):
            await relay.attach(f"cam{number}")
        await relay.until(lambda: relay.relay.events.last == 6)
        async with feed(relay, start) as reader:
            assert (await reader.block()).event == "reset"


async def test_a_reader_that_does_not_read_is_told_when_it_does(tmp_path: Path) -> None:
    """It costs the relay what the ring and one socket hold, however many events there were."""
    async with running_relay(tmp_path, max_events=50) as relay:
        device = await relay.attach("cam")
        assert device.tunnel is not None
        async with feed(relay) as reader:
            await reader.block()
            events = relay.relay.events
            session = relay.store.lookup_device_nowait(relay.team, "cam")
            for _ in range(1_000):
                for _ in range(20):
                    relay.store.update_nowait(relay.team, session.session_id)
                await asyncio.sleep(0)
            assert events.last >= 20_000
            kinds = []
            while "reset" not in kinds:
                kinds.append((await reader.block()).event)
            assert set(kinds) <= {"session.updated", "reset"}
            await relay.attach("door")
            assert (await reader.event())["session"]["device"] == "door"


async def test_the_feed_ends_with_the_relay(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(running_relay(tmp_path))
        reader = await stack.enter_async_context(feed(relay))
        await reader.block()
        await relay.attach("cam")
        async with asyncio.timeout(30):
            await relay.relay.drain()
        relay.relay.events.close()
        last = None
        with contextlib.suppress(EOFError):
            while True:
                last = await reader.event()
        assert last is not None
        assert last["type"] == "session.offline"
