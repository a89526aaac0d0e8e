"""Runs a soak, and says what came of it."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.soak.churn import Churn, Window
from tests.soak.samples import Life, Samples
from tests.soak.slopes import BUDGETS, Growth, growth
from tests.soak.stand import Stand, stand
from tests.soak.traffic import Outcome, Traffic

__all__ = ["LEAST_LIFE", "Soaked", "findings", "soak"]

LEAST_LIFE = 8.0
"""Minutes that a process must have lived for its slopes to be held against the budget: half of them are looked at, and
what a process takes in its first minutes is no leak."""

REST = 90.0
"""Seconds in which everything must be at rest once the clients have gone."""

_NOTED = 100
"""Failures that are told one by one."""

_TROUBLE = re.compile(r"Traceback \(most recent call last\)|\"level\": ?\"critical\"|never awaited|ResourceWarning")


@dataclass(slots=True)
class Soaked:
    """What came of it."""

    minutes: float
    seed: int
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a kind of traffic had a result."""
    excused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a fault excused a result."""
    unexpected: list[str] = field(default_factory=list)
    """Failures that nothing excuses; the first ones."""
    unexpected_count: int = 0
    lives: list[Life] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    """Monotonic time."""
    small: list[tuple[float, float]] = field(default_factory=list)
    """Of small requests: the minute, and how many milliseconds they took."""
    restless: list[str] = field(default_factory=list)
    """What was not at rest in the end."""
    logged: list[str] = field(default_factory=list)
    """What no log of a process may have."""

    def minute(self, moment: float | None = None) -> float:
        """Minutes since the beginning."""
        return ((time.monotonic() if moment is None else moment) - self.began) / 60.0

    def growths(self) -> Iterator[tuple[Life, str, Growth, bool]]:
        """How each figure of each life developed, and whether it is held against its budget."""
        for life in self.lives:
            for what in BUDGETS:
                minutes = life.minutes.get(what, [])
                if len(minutes) >= 8:
                    yield life, what, growth(minutes, life.values[what]), life.lasted >= LEAST_LIFE


def findings(soaked: Soaked) -> list[str]:
    """Everything that must not be, for people; empty if all is well."""
    found = [f"unexpected: {text}" for text in soaked.unexpected]
    if soaked.unexpected_count > len(soaked.unexpected):
        found.append(f"and {soaked.unexpected_count - len(soaked.unexpected)} more that were unexpected")
    for life, what, development, counts in soaked.growths():
        budget = BUDGETS[what]
        if counts and development.exceeds(budget):
            found.append(
                f"leak: {what} of {life.name} grows by {development.slope:.3f} {budget.unit} a minute over "
                f"{development.minutes:.1f} minutes, from {development.first:.1f} to {development.last:.1f}; "
                f"{budget.a_minute} may be"
            )
    found += [f"not at rest: {text}" for text in soaked.restless]
    found += [f"logged: {text}" for text in soaked.logged]
    kinds = {kind for kind, result in soaked.outcomes if result == "ok"}
    found += [f"no {kind} ever succeeded" for kind, _ in soaked.outcomes if kind not in kinds]
    return found


def soak(folder: Path, *, minutes: float, seed: int, say: bool = True) -> Soaked:
    """Soak the stack.

    Args:
        folder: for the processes' files.
        minutes: of traffic and churn.
        seed: of everything that is drawn.
        say: tell of the progress on standard error.
    """
    soaked = Soaked(minutes=minutes, seed=seed)
    with stand(folder, seed=seed) as standing:
        asyncio.run(_soak(standing, soaked, say=say))
    for log in sorted({*folder.rglob("*.log")} - {folder / "demo.log"}):  # a web framework's, about clients that left
        with log.open(encoding="utf-8", errors="replace") as lines:
            soaked.logged += [f"{log.name}: {line.strip()[:300]}" for line in lines if _TROUBLE.search(line)][:5]
    return soaked


async def _soak(standing: Stand, soaked: Soaked, *, say: bool) -> None:
    churn = Churn(standing, seed=soaked.seed)
    soaked.windows = churn.windows

    def ended(outcome: Outcome) -> None:
        soaked.outcomes[outcome.kind, outcome.result] += 1
        if outcome.result == "ok":
            if outcome.kind == "small" and "bad line" not in outcome.client:
                soaked.small.append((soaked.minute(outcome.ended), (outcome.ended - outcome.began) * 1000))
        elif (fault := churn.excuse(outcome)) is not None:
            soaked.excused[fault, outcome.result] += 1
        else:
            soaked.unexpected_count += 1
            if len(soaked.unexpected) < _NOTED:
                soaked.unexpected.append(
                    f"{outcome.result!r} for {outcome.client} in minute {soaked.minute(outcome.began):.2f} "
                    f"after {outcome.ended - outcome.began:.1f} s"
                )

    traffic = Traffic(standing.keys.admin_token, standing.keys.team, ended, seed=soaked.seed)
    soaked.began = time.monotonic()
    async with aiohttp.ClientSession() as session:
        samples = Samples(standing.sources(), session)
        soaked.lives = samples.lives
        clients = [asyncio.create_task(traffic.run(client)) for client in standing.clients()]
        watching = asyncio.create_task(_watch(samples, soaked, say=say))
        try:
            await churn.run(soaked.minutes)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        traffic.stop()
        await asyncio.wait_for(asyncio.gather(*clients), REST)
        soaked.restless = await _rest(samples, soaked, devices=len(standing.agents))


async def _watch(samples: Samples, soaked: Soaked, *, say: bool) -> None:
    every = min(5.0, max(0.5, soaked.minutes * 60.0 / 200))
    told = 0
    while True:
        await samples.take(soaked.minute())
        if say and soaked.minute() >= told + 1:
            told = int(soaked.minute())
            done = sum(soaked.outcomes.values())
            print(
                f"soak: minute {told} of {soaked.minutes:g}: {done} done, {sum(soaked.excused.values())} failed by "
                f"faults, {soaked.unexpected_count} unexpected",
                file=sys.stderr,
                flush=True,
            )
        await asyncio.sleep(every)


async def _rest(samples: Samples, soaked: Soaked, *, devices: int) -> list[str]:
    """Wait until nothing is under way; what still is in the end."""
    deadline = time.monotonic() + REST
    while True:
        await samples.take(soaked.minute())
        found = list(_unrest(samples.now(), devices))
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)


def _unrest(lives: Sequence[Life], devices: int) -> Iterator[str]:
    last = {life.source: {what: values[-1] for what, values in life.values.items()} for life in lives}
    kept = sum(figures.get("idle", 0.0) for figures in last.values())
    for source, figures in last.items():
        allowed = kept if source == "relay" else 0.0
        if figures.get("streams", 0.0) > allowed:
            yield f"{source} has {figures['streams']:g} streams, {allowed:g} are kept for the next request"
    if last["relay"]["sessions"] != devices:
        yield f"the relay has {last['relay']['sessions']:g} sessions, of {devices} devices"
