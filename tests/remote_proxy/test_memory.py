"""What the receive windows may take together: the budgets of one tunnel and of the process, pushed against."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.ids import ServiceName
from common.tunnel.stream import Buffer
from tests.contract.devices import flood
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.contract.sinks import CountingSink

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
TOTAL = 32 * MIB


class Watching(CountingSink):
    """Looks at the windows' memory whenever bytes come."""

    def __init__(self, relay: RunningRelay) -> None:
        super().__init__()
        self._relay = relay
        self.most = 0.0

    def data_received(self, data: Buffer) -> None:
        super().data_received(data)
        self.most = max(self.most, self._relay.metric("window_bytes"))


async def download(relay: RunningRelay, device: str) -> Watching:
    """Fetch `TOTAL` bytes of a device that sends as fast as it is let."""
    handle = await relay.store.lookup_device(relay.team, device)
    sink = Watching(relay)
    await handle.open_stream(ServiceName("flood"), sink)
    await sink.wait_eof()
    assert sink.length == TOTAL
    return sink


@pytest.mark.parametrize(
    ("budgets", "most"),
    [
        ({"memory_budget": MIB, "session_memory_budget": 64 * MIB}, MIB),
        ({"memory_budget": 64 * MIB, "session_memory_budget": MIB // 2}, 2 * MIB // 2),
        ({"memory_budget": 0, "session_memory_budget": 0}, 0),
    ],
    ids=["of the process", "of each tunnel", "none at all"],
)
async def test_windows_never_take_more_than_the_budget(tmp_path: Path, budgets: dict[str, int], most: int) -> None:
    async with running_relay(tmp_path, **budgets) as relay:
        for name in ("cam", "door"):
            await relay.attach(name, services={"flood": flood(TOTAL)})
        sinks = await asyncio.gather(download(relay, "cam"), download(relay, "door"))
        assert max(sink.most for sink in sinks) <= most


async def test_what_was_taken_is_given_back(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay:
        device = await relay.attach("cam", services={"flood": flood(TOTAL)})
        sink = await download(relay, "cam")
        assert sink.most > 0
        device.close()
        await device.wait_lost()
        await relay.until(lambda: relay.metric("window_bytes") == 0)
