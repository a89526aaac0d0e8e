from __future__ import annotations

import asyncio

import pytest

from remote_proxy.tunnels.live import LiveTunnels


@pytest.mark.anyio
async def test_wait_empty_returns_when_the_last_one_has_gone() -> None:
    live: LiveTunnels[str] = LiveTunnels()
    await live.wait_empty()
    live.add("one")
    live.add("two")
    waiting = asyncio.ensure_future(live.wait_empty())
    live.discard("one")
    await asyncio.sleep(0)
    assert not waiting.done()
    live.discard("two")
    await waiting
    live.discard("two")
    assert len(live) == 0


@pytest.mark.anyio
async def test_the_set_may_change_while_it_is_gone_through() -> None:
    live: LiveTunnels[int] = LiveTunnels()
    for number in range(10):
        live.add(number)
    for number in live:
        live.discard(number)
    assert len(live) == 0
