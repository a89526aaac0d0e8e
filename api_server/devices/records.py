"""What the stores of devices give and the endpoints show. Times are seconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from common.crypto.session_tokens import CredentialId
from common.ids import DeviceId, TeamId, new_device_id

__all__ = ["Credential", "CredentialKind", "Device", "Issued", "new_device"]


class CredentialKind(StrEnum):
    """How a session token came to be, which is how it ends."""

    BOUND = "bound"
    """Lives a day at most; the device gets the next one with its key."""
    UNBOUND = "unbound"
    """Lives a day at most; somebody has asked for it, and must ask for the next one."""
    LONG_LIVED = "long_lived"
    """Lives longer, for a client that cannot renew; look after it."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device."""

    id: DeviceId
    """It never changes; it can stand wherever the name can."""
    team: TeamId
    name: str
    services: list[str]
    """Those it was registered with, for people; what it really serves, its session tells."""
    labels: list[str]
    """By which a route can lead to several devices; in alphabetical order."""
    paired: bool
    """Whether it has a key of its own, with which it renews its session token."""
    created_at: float
    created_by: str
    """`user:` or `token:` and the id."""
    disabled_at: float | None
    last_seen_at: float | None
    """When a session of it last began or ended; null before the first."""

    @property
    def creator(self) -> tuple[str, str]:
        """Kind and id of who created it."""
        kind, _, identifier = self.created_by.partition(":")
        return kind, identifier


def new_device(
    team: TeamId,
    name: str,
    created_by: str,
    now: float,
    *,
    services: Sequence[str] = (),
    labels: Sequence[str] = (),
    paired: bool = False,
) -> Device:
    """A device that is not kept yet.

    Args:
        team: that it belongs to.
        name: that it has there.
        created_by: `user:` or `token:` and the id.
        now: seconds since the Unix epoch.
        services: that it is registered with.
        labels: that it has.
        paired: whether it has a key.
    """
    return Device(
        id=new_device_id(),
        team=team,
        name=name,
        services=list(services),
        labels=sorted(set(labels)),
        paired=paired,
        created_at=now,
        created_by=created_by,
        disabled_at=None,
        last_seen_at=None,
    )


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A session token that was issued; the token itself is kept nowhere."""

    id: CredentialId
    device: DeviceId
    kind: CredentialKind
    service: str | None
    issued_at: float
    expires_at: float
    issued_by: str
    revoked_at: float | None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A session token. It is not shown again."""

    id: CredentialId
    """By which it is revoked."""
    session_token: str
    """What the device dials in with."""
    expires_at: int
    """Seconds since the Unix epoch."""
    tunnel_url: str
    """Where to dial with it, as `Authorization: Bearer <session_token>`."""
