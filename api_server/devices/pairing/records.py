"""What pairing shows. Times are seconds since the Unix epoch."""

from __future__ import annotations

import msgspec

from common.ids import DeviceId, TeamId

__all__ = ["Paired", "PairedDevice", "PairingToken", "Waiting"]


class PairingToken(msgspec.Struct, frozen=True, kw_only=True):
    """A pairing token, without the token itself."""

    id: str
    team: TeamId
    start: str
    """Its first characters, to tell it apart."""
    name: str | None
    """What the device will be called, if that was said."""
    uses: int
    """How many devices it is good for."""
    used: int
    """How many have come."""
    created_by: str
    created_at: float
    expires_at: float
    revoked_at: float | None
    last_used_at: float | None
    reuse_count: int
    """How often it was shown again after it was used up. More than none: somebody else has had it."""
    last_reuse_at: float | None


class PairedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The device that a pairing made."""

    id: DeviceId
    name: str
    team: TeamId


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """What a pairing gives."""

    device: PairedDevice
    session_token: str
    """What the device dials in with. It is not shown again."""
    expires_at: int
    """Seconds since the Unix epoch. A device with a key gets the next one before that by `/api/devices/{id}/renew`."""
    tunnel_url: str
    """Where to dial with it."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A device that waits for approval."""

    user_code: str
    name: str
    """What it wants to be called."""
    key_thumbprint: str
    """The agent shows the same on the device."""
    address: str
    """Where the request came from."""
    agent: str
    """What it says it is."""
    created_at: float
    expires_at: float
