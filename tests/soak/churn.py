"""What is done to the stack, one thing after the other with a rest between, and which failures each thing excuses.

The order, the pauses and the lengths are drawn from a seed. Some processes are left alone for the second half of the
run: the relay, the second API server, the agents of `quiet` and `shaky` have a long life there, over which a slope can
be told.
"""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.soak.stand import RESTLESS, SHAKY, Stand
from tests.soak.traffic import NEVER, Outcome

__all__ = ["RECOVERY", "Act", "Churn", "Window"]

RECOVERY = 20.0
"""Seconds after a fault in which what it broke may still be broken: a peer that says nothing is found dead after 15 s,
and the agents of a soak dial again within 4."""

_SHAPES = ("delay 50ms jitter 40ms", "bandwidth 300KiB", "split 1-1400", "merge 4000 within 20ms", "delay 400ms")


@dataclass(slots=True)
class Window:
    """A time in which some requests may fail."""

    label: str
    scope: Callable[[Outcome], bool]
    began: float = field(default_factory=time.monotonic)
    ended: float = math.inf
    hard: bool = True
    """A fault; else it only shapes the line, and excuses nothing but an open that waited too long behind what a slow
    line holds.
    """

    def excuses(self, outcome: Outcome) -> bool:
        """Whether the outcome may be a failure because of it."""
        return (
            (self.hard or outcome.result.startswith("504"))
            and outcome.result not in NEVER
            and self.scope(outcome)
            and outcome.began <= self.ended + RECOVERY
            and outcome.ended >= self.began
        )


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that is done."""

    label: str
    do: Callable[[], Awaitable[None]]
    scope: Callable[[Outcome], bool]
    hard: bool = True


class Churn:
    """Does it.

    Args:
        stand: what it is done to.
        seed: of everything that is drawn.
    """

    def __init__(self, stand: Stand, *, seed: int) -> None:
        self.windows: list[Window] = []
        self._stand = stand
        self._rng = random.Random(f"churn {seed}")
        first, second = stand.apis
        self._of_relay = [
            Act("relay killed", self._restart_relay(signal.SIGKILL), lambda _: True),
            Act("relay drained", self._restart_relay(signal.SIGTERM), lambda _: True),
        ]
        self._of_second_api = [
            Act(f"{second} killed", self._restart_api(second, signal.SIGKILL), lambda o: o.gateway == second)
        ]
        self._often = [
            Act(f"{first} killed", self._restart_api(first, signal.SIGKILL), lambda o: o.gateway == first),
            Act(f"{first} stopped", self._restart_api(first, signal.SIGTERM), lambda o: o.gateway == first),
            Act("agent killed", self._restart_agent(signal.SIGKILL), lambda o: o.device == RESTLESS),
            Act("agent stopped", self._restart_agent(signal.SIGTERM), lambda o: o.device == RESTLESS),
            *self._line_acts(),
        ]

    def _line_acts(self) -> Iterator[Act]:
        def of_tunnel(outcome: Outcome) -> bool:
            return outcome.device == SHAKY

        def of_client(outcome: Outcome) -> bool:
            return "bad line" in outcome.client

        for label, line, scope in (
            ("tunnel", self._stand.tunnel_line, of_tunnel),
            ("client", self._stand.client_line, of_client),
        ):
            for way in ("up", "down"):
                # A client whose own line is dead is told by nobody: that stall is short.
                seconds = (5.0, 25.0) if label == "tunnel" else (1.0, 5.0)
                yield Act(f"{label} line stalled", self._stall(line.apply, way, *seconds), scope)
                yield Act(f"{label} line half-closed", self._at_once(line.apply, f"{way} half-close"), scope)
            yield Act(f"{label} line reset", self._at_once(line.apply, "both reset"), scope)
            yield Act(f"{label} line shaped", self._shape(line.apply), scope, hard=False)
        tunnel = self._stand.tunnel_line
        yield Act("tunnel line corrupted", self._at_once(tunnel.apply, "up corrupt"), of_tunnel)
        yield Act("tunnel line corrupted", self._at_once(tunnel.apply, "down corrupt"), of_tunnel)

    async def run(self, minutes: float) -> None:
        """Churn for that long: what breaks the lives that are measured comes in the first third."""
        began = time.monotonic()
        total = minutes * 60.0
        due = [
            (total * 0.05, self._of_relay[0]),
            (total * 0.15, self._of_second_api[0]),
            (total * 0.25, self._of_relay[1]),
        ]
        deck: list[Act] = []
        while (passed := time.monotonic() - began) < total:
            if due and passed >= due[0][0]:
                await self._do(due.pop(0)[1])
            else:
                if not deck:
                    deck = self._rng.sample(self._often, len(self._often))
                await self._do(deck.pop())
            await asyncio.sleep(min(self._rng.uniform(2.0, 8.0), total / 30))

    def excuse(self, outcome: Outcome) -> str | None:
        """The fault that a failure may be put down to."""
        return next((window.label for window in reversed(self.windows) if window.excuses(outcome)), None)

    async def _do(self, act: Act) -> None:
        window = Window(act.label, act.scope, hard=act.hard)
        self.windows.append(window)
        try:
            await act.do()
        finally:
            window.ended = time.monotonic()

    def _restart_relay(self, number: signal.Signals) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            await asyncio.to_thread(self._stand.relay.end, number)
            await asyncio.to_thread(self._stand.relay.start)

        return do

    def _restart_api(self, name: str, number: signal.Signals) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            await asyncio.to_thread(self._stand.apis[name].end, number)
            await asyncio.to_thread(self._stand.apis[name].start)

        return do

    def _restart_agent(self, number: signal.Signals) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            slot = self._stand.agents[RESTLESS]
            await asyncio.to_thread(slot.end, number)
            await asyncio.sleep(self._rng.uniform(0.0, 5.0))
            await asyncio.to_thread(slot.start)

        return do

    def _stall(
        self, apply: Callable[[str], None], way: str, least: float, most: float
    ) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            await asyncio.to_thread(apply, f"{way} stall")
            await asyncio.sleep(self._rng.uniform(least, most))
            await asyncio.to_thread(apply, f"{way} resume")

        return do

    def _at_once(self, apply: Callable[[str], None], step: str) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            await asyncio.to_thread(apply, step)

        return do

    def _shape(self, apply: Callable[[str], None]) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            await asyncio.to_thread(apply, f"both {self._rng.choice(_SHAPES)}")
            await asyncio.sleep(self._rng.uniform(5.0, 20.0))
            await asyncio.to_thread(apply, "both clear")

        return do
