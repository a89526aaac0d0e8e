"""What can be limited, and by how much. Frozen values; nothing decides here.

A subject is a kind and an id: `team home`, `token tok_...`, `route reports`. An installation has defaults, one for each
kind, which hold for every subject of that kind that has no value of its own for the same thing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from common.ids import TeamId

__all__ = ["Defaults", "Limits", "Rate", "Stored", "SubjectKind", "WhenAway", "merge"]


class SubjectKind(StrEnum):
    """What a limit is of."""

    TEAM = "team"
    TOKEN = "token"  # noqa: S105  a kind, not a secret
    ROUTE = "route"
    ADDRESS = "address"
    """A client's address; an IPv6 address counts as its /64."""
    DEVICE = "device"


class WhenAway(StrEnum):
    """What holds while Valkey, which counts for all processes, cannot be asked."""

    OPEN = "open"
    """Each process counts for itself: the quota holds in each, not over all of them."""
    CLOSED = "closed"
    """Nothing passes: 503 `limits_unavailable`."""


class Rate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So much in so much time, over a window that slides."""

    quota: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    window: Annotated[int, Meta(ge=1, le=86_400)]
    """Seconds."""
    when_away: WhenAway = WhenAway.OPEN
    """What holds while the counter that all processes share is away."""


_Count = Annotated[int, Meta(ge=1, le=10_000_000)]
_Size = Annotated[int, Meta(ge=1, le=2**53)]
_Pace = Annotated[int, Meta(ge=16_384, le=2**53)]
"""Less would let a request wait for longer than a service may take to answer."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one subject; what is null is not limited, or as the installation's default says."""

    requests: Rate | None = None
    """Requests through the gateway."""
    api_requests: Rate | None = None
    """Requests to the REST API."""
    opens_per_second: _Count | None = None
    """Streams to services that are newly opened, on the long run and at once."""
    streams: _Count | None = None
    """Requests and connections under way through the gateway at a time."""
    bytes_per_second: _Pace | None = None
    """Both ways together. What is more waits; nothing is cut."""
    max_body_bytes: _Size | None = None
    """Of a request through the gateway."""
    max_header_bytes: _Size | None = None
    """Of a request head through the gateway."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for each subject of a kind that has no value of its own."""

    team: Limits = Limits()
    token: Limits = Limits()
    route: Limits = Limits()
    address: Limits = Limits()
    device: Limits = Limits()


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a subject as they are kept."""

    kind: SubjectKind
    subject: str
    """Its id; the kind's name for the installation's default."""
    team: TeamId | None
    """That it belongs to; null for the installation's defaults."""
    limits: Limits
    changed_at: float
    """Seconds since the Unix epoch."""
    changed_by: str
    """`user:` or `token:` and the id."""


def merge(own: Limits | None, default: Limits) -> Limits:
    """The limits in effect: a subject's own values, and the default for what it leaves out."""
    if own is None:
        return default
    return Limits(
        **{
            name: value if (value := getattr(own, name)) is not None else getattr(default, name)
            for name in Limits.__struct_fields__
        }
    )
