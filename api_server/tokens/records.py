"""API tokens as they are shown, and as they are looked at when one is used. Times are seconds since the Unix epoch."""

from __future__ import annotations

import msgspec

from common.ids import TeamId

__all__ = ["ADMINISTRATION", "ApiToken", "Issuer", "LiveToken"]

ADMINISTRATION = "administration"
"""Kind of the issuer of what the administration token has made."""


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without the token itself."""

    id: str
    team: TeamId
    name: str
    description: str
    start: str
    """Its first characters, to tell it apart."""
    scopes: list[str]
    addresses: list[str]
    """Networks that it may be used from; empty for any."""
    issuer: str
    """Whose rights it is held against each time it is used: `user:usr_...`, or `administration:hp_...`."""
    created_by: str
    """The same, or the token that made it."""
    created_at: float
    issued_at: float
    """When the token that is in use now was made: at first, or by a rotation."""
    expires_at: float | None
    """None: it does not expire."""
    expires_soon: int | None
    """30, 7 or 1: it expires within so many days, and followers of the events were told. None: not so soon."""
    previous_expires_at: float | None
    """Until when the token before the last rotation holds as well; None when it does not."""
    revoked_at: float | None
    last_used_at: float | None
    """About a minute late at most; None for never."""


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rights a token is held against."""

    kind: str
    """`user`, or `administration`."""
    id: str


class LiveToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was neither revoked nor has expired, as far as its use goes."""

    id: str
    team: TeamId
    name: str
    scopes: tuple[str, ...]
    addresses: tuple[str, ...]
    issuer: Issuer
    expires_at: float | None
    """Of what was shown: of the token before the last rotation, when it is that one."""
