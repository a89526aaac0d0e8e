"""The end of a relay: devices are asked to go elsewhere, streams get time to finish, and then it is over.

1. Nobody is admitted any more; the tunnel port answers 503 with Retry-After, `/readyz` says so. Where another relay
   waits for the ports, they are given up instead.
2. Each device is asked to dial anew, at its own moment, so that they come back as fast as a relay takes them and no
   faster, but within the grace.
3. A tunnel closes when its last stream has ended. The wait for all of them ends with the grace.
4. What is left is reset.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from common.logging import Logger
from remote_proxy.tunnels.admission import Gate
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.session import LiveTunnel

__all__ = ["Drain"]

_BATCH = 200
"""Tunnels that are told in one turn of the loop."""
_COME_BACK = 5.0
"""Seconds after which a device that was refused should try again: the drain may be over long before its grace is."""
_GOODBYE = 1.0
"""Seconds for the last words to the devices whose streams had to be reset."""


class Drain:
    """Drains a relay once.

    Args:
        live: the tunnels to wait for.
        gate: is closed first.
        grace: seconds that streams have to end.
        give_up_ports: what hands the ports over; None where there is nobody to take them.
        handshakes_per_second: that the next relay takes.
        log: says what the drain waits for, and what it had to reset.
    """

    def __init__(
        self,
        live: LiveTunnels[LiveTunnel],
        gate: Gate,
        *,
        grace: float,
        log: Logger,
        give_up_ports: Callable[[], None] | None = None,
        handshakes_per_second: float = math.inf,
    ) -> None:
        self._live = live
        self._give_up_ports = give_up_ports
        self._handshakes_per_second = handshakes_per_second
        self._gate = gate
        self._grace = grace
        self._log = log
        self._hurried = False
        self._limit: asyncio.Timeout | None = None
        self.started = False

    async def run(self) -> bool:
        """Drain; returns whether all streams ended in time."""
        self.started = True
        handover = self._give_up_ports is not None
        if self._give_up_ports is not None:
            self._give_up_ports()
        self._gate.close(min(self._grace, _COME_BACK))
        self._log.info("draining", tunnels=len(self._live), grace=self._grace, handover=handover)
        await self._tell(min(self._grace, len(self._live) / self._handshakes_per_second))
        in_time = await self._wait(self._grace)
        if not in_time:
            self._log.warning("grace over, resetting what is left", tunnels=len(self._live))
            for tunnel in self._live:
                tunnel.close("draining")
            await self._wait(_GOODBYE)
        return in_time

    def hurry(self) -> None:
        """End the grace now: somebody asked a second time."""
        self._hurried = True
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _tell(self, spread: float) -> None:
        tunnels = list(self._live)
        for number, tunnel in enumerate(tunnels):
            tunnel.drain(spread * number / len(tunnels))
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> bool:
        """Wait until no tunnel is left; False if the time was over first."""
        try:
            async with asyncio.timeout(0 if self._hurried else seconds) as self._limit:
                await self._live.wait_empty()
        except TimeoutError:
            return False
        finally:
            self._limit = None
        return True
