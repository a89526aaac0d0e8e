"""The order of one agent's dials: `Homeport-Dial: BOOT.NUMBER` in the handshake (optional).

A relay orders the sessions of a device by when they reach it, and the network may bring a dial that the agent gave up
long ago behind the one that replaced it. The header says which of the two is the older one: `BOOT` names one run of the
agent, by chance, and `NUMBER` rises with each dial of that run. Dials of two runs have no order.
"""

from __future__ import annotations

import itertools
import re
import secrets
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["DIAL_HEADER", "Dial", "DialSource"]

DIAL_HEADER: Final = "Homeport-Dial"

_DIAL: Final = re.compile(r"([0-9A-Za-z_-]{8,64})\.([0-9]{1,15})", re.ASCII)
"""At most 15 digits: the number survives JSON."""


@dataclass(frozen=True, slots=True)
class Dial:
    """One dial of one run of an agent."""

    boot: str
    number: int

    def __str__(self) -> str:
        return f"{self.boot}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of the header.

        Raises:
            ValueError: it is not one.
        """
        match = _DIAL.fullmatch(text)
        if match is None:
            raise ValueError("not BOOT.NUMBER")
        return cls(match[1], int(match[2]))

    def is_before(self, other: Dial | None) -> bool:
        """Whether `other` is a later dial of the same run. Not so for an equal one: a proxy on the way may have sent a
        handshake twice, and the second connection is the one that lives.
        """
        return other is not None and self.boot == other.boot and self.number < other.number


class DialSource:
    """Numbers the dials of this run of an agent."""

    __slots__ = ("_boot", "_numbers")

    def __init__(self) -> None:
        self._boot = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def next(self) -> Dial:
        """The next dial."""
        return Dial(self._boot, next(self._numbers))
