"""What a chaos proxy does to the bytes that pass, as data and as text.

A script is a list of steps. In text they are separated by semicolons, each

    [#CONNECTION] DIRECTION ACTION [at BYTES | after SECONDS]

    DIRECTION  up (from who dials to who listens), down, or both
    ACTION     delay SECONDS [jitter SECONDS]   each byte arrives so much later; order is kept
               bandwidth BYTES                  at most so many bytes a second
               split BYTES[-BYTES]              writes of at most so many bytes, sizes drawn from the range
               merge BYTES within SECONDS       bytes are held until there are so many, or the first has waited so long
               clear                            the four above are over
               stall                            nothing passes, the sockets stay: half-open; only `resume` ends it
               resume
               reset                            RST to both ends; the direction says whose bytes are counted
               half-close                       FIN to who would have got the bytes; what follows is thrown away
               corrupt [MASK]                   these bits of the next byte are turned; some by the seed without a mask
    BYTES      counts bytes of that direction of that connection; a range, as in `at 100-900`, is drawn from
    CONNECTION counts connections of the proxy from 1; without it the step is for each

as in `both delay 50ms; #1 down stall at 65536; up corrupt 0x40 at 700; both reset after 1.5s`. Without `at` or `after`
a step holds from the connection's first byte. Everything random is drawn from the seed, the connection's number and
the direction, by the offset of the byte, never by how the bytes came in: the same seed decides the same.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

__all__ = ["REPLAY", "Action", "Direction", "Script", "ScriptError", "Step"]

REPLAY = "HOMEPORT_CHAOS"
"""Environment variable with a whole script, `seed N` included, that is used in the place of the test's own."""


class ScriptError(ValueError):
    """A text that is no script."""


class Direction(StrEnum):
    """Which way bytes go through the proxy."""

    UP = "up"
    """From who dialled the proxy."""
    DOWN = "down"
    """To who dialled the proxy."""
    BOTH = "both"

    def parts(self) -> tuple[Direction, ...]:
        """Up, down, or these two."""
        return (Direction.UP, Direction.DOWN) if self is Direction.BOTH else (self,)


class Action(StrEnum):
    """See the module."""

    DELAY = "delay"
    BANDWIDTH = "bandwidth"
    SPLIT = "split"
    MERGE = "merge"
    CLEAR = "clear"
    STALL = "stall"
    RESUME = "resume"
    RESET = "reset"
    HALF_CLOSE = "half-close"
    CORRUPT = "corrupt"


_SIZE = r"\d+(?:KiB|MiB|GiB)?"
_TIME = r"\d+(?:\.\d+)?(?:ms|s)"
_STEP = re.compile(
    rf"""
    (?:\#(?P<connection>[1-9]\d*)\s+)?
    (?P<direction>up|down|both)\s+
    (?:
        delay\s+(?P<delay>{_TIME})(?:\s+jitter\s+(?P<jitter>{_TIME}))?
      | bandwidth\s+(?P<bandwidth>{_SIZE})
      | split\s+(?P<split>{_SIZE})(?:-(?P<split_to>{_SIZE}))?
      | merge\s+(?P<merge>{_SIZE})\s+within\s+(?P<within>{_TIME})
      | corrupt(?:\s+(?P<mask>0x[0-9a-f]{{1,2}}))?
      | (?P<plain>clear|stall|resume|reset|half-close)
    )
    (?:\s+at\s+(?P<at>{_SIZE})(?:-(?P<at_to>{_SIZE}))?|\s+after\s+(?P<after>{_TIME}))?
    """,
    re.VERBOSE,
)
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a script."""

    direction: Direction
    action: Action
    connection: int = 0
    """Its number, from 1; 0 for each."""
    seconds: float = 0.0
    """Delay, or how long bytes are held to be merged."""
    jitter: float = 0.0
    size: int = 0
    """Bytes: of bandwidth in a second, of a merged write, or least of a split one."""
    size_to: int = 0
    """Most bytes of a split write; 0 for as many as the least."""
    mask: int = 0
    """Bits to turn; 0 for some, by the seed."""
    at: int | None = None
    """Bytes of the direction that pass before."""
    at_to: int = 0
    """End of the range that `at` is drawn from, itself included; 0 for none."""
    after: float | None = None
    """Seconds since the connection was made."""

    @classmethod
    def parse(cls, text: str) -> Step:
        """Read one step.

        Raises:
            ScriptError: it is none.
        """
        match = _STEP.fullmatch(text.strip())
        if match is None:
            raise ScriptError(f"not a step: {text!r}")
        found = match.groupdict()
        step = cls(
            direction=Direction(found["direction"]),
            action=_action(found),
            connection=int(found["connection"] or 0),
            seconds=_time(found["delay"] or found["within"]),
            jitter=_time(found["jitter"]),
            size=_size(found["bandwidth"] or found["split"] or found["merge"]),
            size_to=_size(found["split_to"]),
            mask=int(found["mask"] or "0", 16),
            at=None if found["at"] is None else _size(found["at"]),
            at_to=_size(found["at_to"]),
            after=None if found["after"] is None else _time(found["after"]),
        )
        step._check()
        return step

    def _check(self) -> None:
        if self.action in (Action.BANDWIDTH, Action.SPLIT, Action.MERGE) and not self.size:
            raise ScriptError(f"of no bytes: {self}")
        if 0 < self.size_to < self.size or (self.at is not None and 0 < self.at_to < self.at):
            raise ScriptError(f"a range that ends before it begins: {self}")

    def drawn(self, rng: random.Random) -> Step:
        """This step with what is random in it decided."""
        step = self
        if self.at is not None and self.at_to:
            step = replace(step, at=rng.randint(self.at, self.at_to), at_to=0)
        if self.action is Action.CORRUPT and not self.mask:
            step = replace(step, mask=rng.randint(1, 255))
        return step

    def __str__(self) -> str:
        words = [f"#{self.connection}"] if self.connection else []
        words += [self.direction, self.action]
        match self.action:
            case Action.DELAY:
                words.append(_seconds(self.seconds))
                words += ["jitter", _seconds(self.jitter)] if self.jitter else []
            case Action.BANDWIDTH:
                words.append(str(self.size))
            case Action.SPLIT:
                words.append(f"{self.size}-{self.size_to}" if self.size_to else str(self.size))
            case Action.MERGE:
                words += [str(self.size), "within", _seconds(self.seconds)]
            case Action.CORRUPT if self.mask:
                words.append(f"{self.mask:#04x}")
            case _:
                pass
        if self.at is not None:
            words += ["at", f"{self.at}-{self.at_to}" if self.at_to else str(self.at)]
        elif self.after is not None:
            words += ["after", _seconds(self.after)]
        return " ".join(words)


def _action(found: dict[str, str | None]) -> Action:
    for action in (Action.DELAY, Action.BANDWIDTH, Action.SPLIT, Action.MERGE):
        if found[action] is not None:
            return action
    return Action.CORRUPT if found["plain"] is None else Action(found["plain"])


def _size(text: str | None) -> int:
    digits = (text or "0").rstrip("KMGiB")
    return int(digits) * _UNITS[(text or "0")[len(digits) :]]


def _time(text: str | None) -> float:
    if text is None:
        return 0.0
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True, slots=True)
class Script:
    """The steps, and the seed of all that is random in them."""

    steps: tuple[Step, ...] = ()
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read steps, after an optional `seed N`.

        Raises:
            ScriptError: it is no script.
        """
        parts = [part.strip() for part in text.split(";") if part.strip()]
        seed = 0
        if parts and (match := re.fullmatch(r"seed\s+(\d+)", parts[0])):
            seed = int(match[1])
            del parts[0]
        return cls(tuple(Step.parse(part) for part in parts), seed)

    def or_replayed(self, environ: Mapping[str, str] = os.environ) -> Script:
        """This script, or the one in the environment."""
        text = environ.get(REPLAY)
        return self if not text else Script.parse(text)

    def of_connection(self, number: int, direction: Direction) -> Iterator[Step]:
        """The steps of one direction of a connection, everything random drawn; never `Direction.BOTH`."""
        rng = self.rng(number, direction)
        for step in self.steps:
            if step.connection in (0, number) and direction in step.direction.parts():
                yield replace(step.drawn(rng), direction=direction)

    def rng(self, number: int, direction: Direction, purpose: str = "steps") -> random.Random:
        """A generator for one use in one direction of a connection, always the same."""
        return random.Random(f"{self.seed} {number} {direction} {purpose}")

    def __str__(self) -> str:
        return "; ".join([f"seed {self.seed}", *map(str, self.steps)])
