"""Calls to providers, with a limit on each: how many at once, how many a second, and none while one is broken (B3).

What one team does at a provider costs no other team anything: the limits are of a provider (scheme, host and port) as a
team uses it, in each process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from api_server.broker.breaker import Breaker, State
from api_server.broker.errors import ProviderPausedError
from api_server.broker.requests import ProviderRequest
from api_server.outbound.errors import OutboundError
from api_server.outbound.http import OutboundAnswer, OutboundHttp
from common.clock import Clock
from common.ids import TeamId

__all__ = ["Providers"]

_MAX_BYTES = 256 * 1024
"""Of an answer: a token is a few kilobytes."""
_MOST = 4096
"""Providers that are remembered; those that are idle and well are forgotten beyond that."""


class _Gate:
    """In front of one provider of one team."""

    def __init__(self, concurrency: int, rate: float, now: float) -> None:
        self.turns = asyncio.Semaphore(concurrency)
        self.breaker = Breaker()
        self.paused_until = 0.0
        self.callers = 0
        """That call, or wait for their turn."""
        self._rate = rate
        self._burst = max(1.0, rate)
        self._tokens = self._burst
        self._at = now

    def idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        well = self.breaker.state is State.CLOSED and self.paused_until <= now
        return well and not self.callers and self._at + self._burst / self._rate <= now

    def wait(self, now: float) -> float:
        """Seconds until the rate lets a call through; none when it does now, and it is counted."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate
        self._tokens -= 1.0
        return 0.0


class Providers:
    """Calls them.

    Args:
        http: sends.
        clock: monotonic time.
        concurrency: most calls to one provider of a team at a time.
        rate: most a second, and most at once after a pause.
    """

    def __init__(self, http: OutboundHttp, clock: Clock, *, concurrency: int = 8, rate: float = 20.0) -> None:
        self._http = http
        self._clock = clock
        self._concurrency = concurrency
        self._rate = rate
        self._gates: dict[tuple[TeamId, str], _Gate] = {}

    def breakers(self) -> Counter[str]:
        """How many providers are in each state."""
        return Counter(gate.breaker.state.value for gate in self._gates.values())

    @contextlib.asynccontextmanager
    async def turn(self, team: TeamId, provider: str, timeout: float) -> AsyncIterator[_Gate]:
        """Leave to call a provider, for the block.

        Raises:
            ProviderPausedError: there is none, or none within `timeout` seconds.
        """
        gate = self._gate(team, provider)
        where = provider.partition("://")[2]
        now = self._clock.monotonic()
        if (wait := gate.paused_until - now) > 0:
            raise ProviderPausedError(f"{where} asked to be left alone", retry_after=wait)
        if (wait := gate.breaker.admit(now)) > 0:
            raise ProviderPausedError(f"{where} has failed again and again", retry_after=wait)
        if (wait := gate.wait(now)) > 0:
            gate.breaker.forgotten(now)
            raise ProviderPausedError(f"too many calls a second to {where}", retry_after=wait)
        gate.callers += 1
        try:
            try:
                async with asyncio.timeout(timeout):
                    await gate.turns.acquire()
            except TimeoutError:
                gate.breaker.forgotten(self._clock.monotonic())
                raise ProviderPausedError(f"too many calls to {where} are under way", retry_after=timeout) from None
            except BaseException:
                gate.breaker.forgotten(self._clock.monotonic())
                raise
            try:
                yield gate
            finally:
                gate.turns.release()
        finally:
            gate.callers -= 1

    async def call(self, gate: _Gate, request: ProviderRequest, timeout: float) -> OutboundAnswer:
        """The answer to a request, whatever its status is.

        Args:
            gate: as `turn` gave it; once.
            request: to the provider of that gate.
            timeout: seconds.

        Raises:
            OutboundError: there is none.
        """
        try:
            answer = await self._http.request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                timeout=timeout,
                max_bytes=_MAX_BYTES,
            )
        except OutboundError:
            gate.breaker.failed(self._clock.monotonic())
            raise
        except BaseException:
            gate.breaker.forgotten(self._clock.monotonic())
            raise
        if answer.status >= 500:
            gate.breaker.failed(self._clock.monotonic())
        else:
            gate.breaker.succeeded()
        return answer

    def pause(self, gate: _Gate, seconds: float) -> None:
        """The provider asks to be left alone, by all applications of the team."""
        gate.paused_until = max(gate.paused_until, self._clock.monotonic() + seconds)

    def _gate(self, team: TeamId, provider: str) -> _Gate:
        gate = self._gates.get((team, provider))
        if gate is None:
            now = self._clock.monotonic()
            if len(self._gates) >= _MOST:
                self._gates = {name: each for name, each in self._gates.items() if not each.idle(now)}
            gate = self._gates[team, provider] = _Gate(self._concurrency, self._rate, now)
        return gate
