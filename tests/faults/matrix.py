"""Each fault on each hop under each load, and what must come of it: data, from `outcomes.txt`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.faults.script import Script

__all__ = ["ANY", "Cell", "Expected", "Fault", "Hop", "Load", "all_cells", "cover", "outcomes"]

OUTCOMES = Path(__file__).with_name("outcomes.txt")
ANY = "any"
"""A word that stands for all but `silent`."""


class Hop(StrEnum):
    """Between whom the fault is."""

    CLIENT = "client-gateway"
    GATEWAY = "gateway-relay"
    TUNNEL = "relay-agent"
    TUNNEL_TLS = "relay-agent with TLS"
    SERVICE = "agent-service"


class Fault(StrEnum):
    """What happens; up is towards the service."""

    DELAY = "delay"
    BANDWIDTH = "bandwidth"
    SPLIT = "split"
    MERGE = "merge"
    STALL_UP = "stall up"
    STALL_DOWN = "stall down"
    STALL_BOTH = "stall both"
    RESET = "reset"
    HALF_CLOSE_UP = "half-close up"
    HALF_CLOSE_DOWN = "half-close down"
    CORRUPT_UP = "corrupt up"
    CORRUPT_DOWN = "corrupt down"

    @property
    def shapes(self) -> bool:
        """Whether it holds from the first byte to the last; else it happens once, in the middle."""
        return self in _SHAPES

    @property
    def stalls(self) -> bool:
        """Whether bytes stop without a word."""
        return self in (Fault.STALL_UP, Fault.STALL_DOWN, Fault.STALL_BOTH)

    @property
    def script(self) -> str:
        """For the chaos proxy. An agent dials the relay, so there `up` and `down` are swapped: see `Cell.script`."""
        return _SCRIPTS[self]


_SCRIPTS = {
    Fault.DELAY: "both delay 60ms jitter 30ms",
    Fault.BANDWIDTH: "both bandwidth 4MiB",
    # Smaller pieces measure how a kernel accounts for segments of which most is overhead: it drops them, and backs off.
    Fault.SPLIT: "both split 1-2000",
    Fault.MERGE: "both merge 16KiB within 20ms",
    Fault.STALL_UP: "up stall",
    Fault.STALL_DOWN: "down stall",
    Fault.STALL_BOTH: "both stall",
    Fault.RESET: "both reset",
    Fault.HALF_CLOSE_UP: "up half-close",
    Fault.HALF_CLOSE_DOWN: "down half-close",
    Fault.CORRUPT_UP: "up corrupt at 0-300",
    Fault.CORRUPT_DOWN: "down corrupt at 0-300",
}
_SHAPES = (Fault.DELAY, Fault.BANDWIDTH, Fault.SPLIT, Fault.MERGE)
_SWAPPED = {"up": "down", "down": "up", "both": "both"}


class Load(StrEnum):
    """What goes on meanwhile."""

    IDLE = "idle"
    SMALL = "small requests"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    EVENTS = "event stream"
    WEBSOCKET = "WebSocket"
    TCP = "raw TCP"


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the matrix."""

    hop: Hop
    fault: Fault
    load: Load

    def __str__(self) -> str:
        return f"{self.hop}/{self.fault}/{self.load}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """From its text."""
        hop, fault, load = text.split("/")
        return cls(Hop(hop), Fault(fault), Load(load))

    def script(self, seed: int) -> str:
        """The steps, with everything random drawn: always the same for a cell and a seed."""
        rng = random.Random(f"{seed} {self}")
        texts = []
        for step in Script.parse(self.fault.script).steps:
            text = str(step.drawn(rng))
            if self.hop in (Hop.TUNNEL, Hop.TUNNEL_TLS):
                direction, _, rest = text.partition(" ")
                text = f"{_SWAPPED[direction]} {rest}"
            texts.append(text)
        return "; ".join(texts)


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one cell."""

    client: frozenset[str]
    """What the client may find, instead of `ok` if that is not in it."""
    service: frozenset[str]
    """The same for the service."""

    @classmethod
    def parse(cls, text: str) -> Expected:
        """From `CLIENT / SERVICE`, each `WORD | WORD`; one alone is for both."""
        client, _, service = text.partition("/")
        return cls(_words(client), _words(service or client))

    def __str__(self) -> str:
        client, service = (" or ".join(sorted(each)) for each in (self.client, self.service))
        return client if client == service else f"{client}; service: {service}"


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split("|"))


def outcomes(path: Path = OUTCOMES) -> Mapping[Cell, Expected]:
    """The table. A line is a hop in brackets, or `fault: load = outcome, load = outcome ...`.

    `rest` stands for the loads that the line does not name.
    """
    table: dict[Cell, Expected] = {}
    hop: Hop | None = None
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if text.startswith("["):
            hop = Hop(text[1:-1])
            continue
        assert hop is not None
        name, _, entries = text.partition(":")
        row = {left.strip(): right for left, _, right in (entry.partition("=") for entry in entries.split(","))}
        for load in Load:
            table[Cell(hop, Fault(name), load)] = Expected.parse(row.pop(load, row.get("rest", "")))
        row.pop("rest", None)
        if row:
            raise ValueError(f"no loads: {row}")
    return table


def all_cells() -> Iterator[Cell]:
    """The matrix."""
    return (Cell(hop, fault, load) for hop in Hop for fault in Fault for load in Load)


def cover() -> Iterator[Cell]:
    """A share in which each fault meets each hop and each load, and each hop each load."""
    hops = list(Hop)
    for number, fault in enumerate(Fault):
        for place, load in enumerate(Load):
            yield Cell(hops[(number + place) % len(hops)], fault, load)
