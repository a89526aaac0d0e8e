"""The network of the simulation does what TCP does, and what its faults say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from common.tunnel.on_trio.transport import receive, send_all
from tests.simulation.network import Connection, Direction, End, Network, Quality, Site

DATA = bytes(range(256)) * 200


class Joined:
    """One connection through a site."""

    def __init__(self, site: Site, network: Network) -> None:
        self.site = site
        self.network = network
        self.device: End
        self.relay: End

    @property
    def connection(self) -> Connection:
        return self.site.connections[0]


def over(quality: Quality, act: Callable[[Joined], Awaitable[None]]) -> None:
    """Run something over one connection."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            network = Network(nursery)
            joined = Joined(Site("device", dict.fromkeys(Direction, quality), "seed"), network)

            def accept(end: End, _: str) -> None:
                joined.relay = end

            network.accept = accept
            joined.device = await network.connect(joined.site)
            with trio.fail_after(10_000):
                await act(joined)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def receive_all(end: End) -> bytes:
    """Up to the end."""
    data = b""
    while piece := await receive(end):
        data += piece
    return data


@pytest.mark.parametrize(
    "quality",
    [
        Quality(),
        Quality(delay=0.3, jitter=0.5, segment=7, bandwidth=50_000.0, send_buffer=1000),
        Quality(delay=0.0, segment=1400, send_buffer=1),
    ],
)
def test_bytes_arrive_in_order_and_whole_whatever_the_way_is_like(quality: Quality) -> None:
    async def act(joined: Joined) -> None:
        async def send() -> None:
            await send_all(joined.device, DATA)
            await joined.device.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await receive_all(joined.relay) == DATA

    over(quality, act)


def test_delay_and_bandwidth_take_their_time() -> None:
    async def act(joined: Joined) -> None:
        began = trio.current_time()
        await send_all(joined.device, b"x")
        await receive(joined.relay)
        assert trio.current_time() - began == pytest.approx(2.0 + 1 / 1000, abs=0.001)
        await send_all(joined.device, DATA[:10_000])
        await joined.device.aclose()
        await receive_all(joined.relay)
        assert trio.current_time() - began == pytest.approx(2.0 + 12.0, abs=0.1)

    over(Quality(delay=2.0, bandwidth=1000.0), act)


def test_a_full_buffer_takes_no_more() -> None:
    async def act(joined: Joined) -> None:
        joined.site.ways[Direction.UP].stall()
        assert joined.device.send_nowait((DATA, DATA)) == 1000
        assert joined.device.send_nowait((DATA,)) == 0
        joined.site.ways[Direction.UP].heal()
        await joined.device.wait_writable()
        assert joined.device.send_nowait((DATA,)) > 0

    over(Quality(send_buffer=1000), act)


def test_a_stalled_way_holds_everything_and_the_other_one_nothing() -> None:
    async def act(joined: Joined) -> None:
        way = joined.site.ways[Direction.UP]
        way.stall()
        await send_all(joined.device, b"u")
        await send_all(joined.relay, b"d")
        assert await receive(joined.device) == b"d"
        await trio.sleep(1000)
        assert joined.relay.receive_nowait() is None
        way.heal()
        assert await receive(joined.relay) == b"u"

    over(Quality(), act)


def test_a_reset_breaks_both_ends_and_loses_what_is_under_way() -> None:
    async def act(joined: Joined) -> None:
        await send_all(joined.device, b"lost")
        joined.connection.reset()
        for end in (joined.device, joined.relay):
            with pytest.raises(ConnectionResetError):
                await receive(end)
            with pytest.raises(BrokenPipeError):
                end.send_nowait((b"x",))
            await end.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not joined.site.connections

    over(Quality(), act)


def test_a_half_close_ends_one_direction_and_swallows_what_follows() -> None:
    async def act(joined: Joined) -> None:
        joined.connection.pipes[Direction.UP].half_close()
        assert await receive(joined.relay) == b""
        await send_all(joined.device, b"swallowed")
        await trio.sleep(10)
        assert joined.relay.receive_nowait() == b""
        await send_all(joined.relay, b"d")
        assert await receive(joined.device) == b"d"

    over(Quality(), act)


def test_a_byte_is_changed_at_its_offset_and_no_other() -> None:
    async def act(joined: Joined) -> None:
        joined.connection.pipes[Direction.UP].at(1000, lambda pipe: pipe.corrupt_next(0xFF))
        await send_all(joined.device, DATA)
        await joined.device.aclose()
        received = await receive_all(joined.relay)
        assert received == DATA[:1000] + bytes([DATA[1000] ^ 0xFF]) + DATA[1001:]

    over(Quality(), act)


def test_a_close_with_unread_bytes_resets_the_peer() -> None:
    async def act(joined: Joined) -> None:
        await send_all(joined.device, b"unread")
        await trio.sleep(1)
        await joined.relay.aclose()
        with pytest.raises(ConnectionResetError):
            await receive(joined.device)

    over(Quality(), act)


def test_bytes_for_a_closed_end_reset_the_sender() -> None:
    async def act(joined: Joined) -> None:
        await joined.relay.aclose()
        assert await receive(joined.device) == b""
        await send_all(joined.device, b"too late")
        await trio.sleep(1)
        with pytest.raises(BrokenPipeError):
            joined.device.send_nowait((b"x",))

    over(Quality(), act)


def test_a_device_without_power_says_nothing() -> None:
    async def act(joined: Joined) -> None:
        joined.connection.lose_device()
        await joined.device.aclose()
        await send_all(joined.relay, b"hello?")
        await trio.sleep(1000)
        assert joined.relay.receive_nowait() is None
        joined.connection.device_is_back()
        with pytest.raises(ConnectionResetError):
            await receive(joined.relay)

    over(Quality(), act)


def test_nobody_listens_and_no_power() -> None:
    async def act(joined: Joined) -> None:
        joined.network.accept = None
        with pytest.raises(ConnectionRefusedError):
            await joined.network.connect(joined.site)
        joined.network.dark = True
        with pytest.raises(trio.TooSlowError), trio.fail_after(1000):
            await joined.network.connect(joined.site)

    over(Quality(), act)
