"""The end of a relay: devices are asked to go elsewhere, streams get time to finish, and then it is over.

1. Nobody is admitted any more; the tunnel port answers 503 with Retry-After, `/readyz` says so.
2. Each device is asked to dial anew, at its own moment within the grace, so that they do not come back together.
3. A tunnel closes when its last stream has ended. The wait for all of them ends with the grace.
4. What is left is reset.
"""

from __future__ import annotations

import asyncio

from common.logging import Logger
from remote_proxy.tunnels.admission import Gate
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.session import LiveTunnel

__all__ = ["Drain"]

_BATCH = 200
"""Tunnels that are told in one turn of the loop."""
_GOODBYE = 1.0
"""Seconds for the last words to the devices whose streams had to be reset."""


class Drain:
    """Drains a relay once.

    Args:
        live: the tunnels to wait for.
        gate: is closed first.
        grace: seconds that streams have to end.
        log: says what the drain waits for, and what it had to reset.
    """

    def __init__(self, live: LiveTunnels[LiveTunnel], gate: Gate, *, grace: float, log: Logger) -> None:
        self._live = live
        self._gate = gate
        self._grace = grace
        self._log = log
        self._hurried = False
        self._limit: asyncio.Timeout | None = None
        self.started = False

    async def run(self) -> bool:
        """Drain; returns whether all streams ended in time."""
        self.started = True
        self._gate.close(self._grace)
        self._log.info("draining", tunnels=len(self._live), grace=self._grace)
        await self._tell()
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

    async def _tell(self) -> None:
        tunnels = list(self._live)
        for number, tunnel in enumerate(tunnels):
            tunnel.drain(self._grace * number / len(tunnels))
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
