"""What is counted and how it is asked for. Times are seconds since the Unix epoch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from common.ids import TeamId

__all__ = ["HOUR", "By", "Key", "Question", "Usage"]

HOUR: Final = 3600


class Key(NamedTuple):
    """What is counted apart."""

    team: TeamId
    hour: int
    """Hours since the Unix epoch."""
    token: str
    """Id of the identity: a token, or a person."""
    route: str
    """Id of the route, or `device/service`; empty when nothing was reached."""
    status: int
    """Of the response; 0 when there was none."""


class By(StrEnum):
    """What usage can be shown apart by."""

    HOUR = "hour"
    DAY = "day"
    TOKEN = "token"  # noqa: S105  a column, not a secret
    ROUTE = "route"
    STATUS_CLASS = "status_class"
    STATUS = "status"


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of usage; it has the fields that were asked for by `by`, and the sums."""

    hour: int | None = None
    """Its beginning: seconds since the Unix epoch."""
    day: int | None = None
    """Its beginning, in UTC."""
    token: str | None = None
    """Id of the token, or of the person."""
    route: str | None = None
    """Id of the route; `device/service` for one that is built in; empty when nothing was reached."""
    status_class: int | None = None
    """2 for 2xx; 0 when there was no response."""
    status: int | None = None
    """0 when there was no response."""
    requests: int
    """Those that are over; a connection that goes on has bytes only."""
    bytes_in: int
    """From clients, heads included."""
    bytes_out: int
    """To clients, heads included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked; None means any."""

    team: TeamId
    since: float
    until: float
    token: str | None = None
    route: str | None = None
    status: int | None = None
    by: tuple[By, ...]
    """In that order; sorted by it, too."""
