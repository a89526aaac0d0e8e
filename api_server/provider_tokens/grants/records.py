"""A grant: what a provider gave for one person in one team, and the record that it is kept in.

    refresh is due at    end - max(margin, buffer)      margin = min(configured, 20 % of the life)
    not valid from       end - buffer                   buffer = min(30 s, 20 % of the life)

An end of 0 is never. Both are a part of the life, so that a token of a short life is served at all (criterion B2).

All of a grant is sealed as one text; the record shows team, user and provider. Its id is made of these, so that there
is one record for each of them, in every store (`api_server.custody`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from api_server.custody.records import Record
from common.crypto.envelope import Envelope, SealContext
from common.ids import TeamId
from common.secret import Secret

__all__ = ["BUFFER", "OFFLINE_PROVIDER", "Grant", "GrantKey", "GrantKind", "open_grant", "seal_grant"]

BUFFER: Final = 30.0
"""Seconds before its end at which a token does not count as valid any more: it has to last for a call."""
_SHARE: Final = 0.2
"""Of its life: the longest margin."""

OFFLINE_PROVIDER: Final = "sign-in"
"""What the provider of sign-in is called in the record of an offline token."""


class GrantKind(StrEnum):
    """What is kept; it is part of what a record is sealed under."""

    PROVIDER_TOKEN = "provider_token"  # noqa: S105  the name of a kind
    OFFLINE_TOKEN = "offline_token"  # noqa: S105


@dataclass(frozen=True, slots=True)
class GrantKey:
    """Whose grant, and for what. There is one for each team, user and provider."""

    team: TeamId
    """Empty for an offline token, which is of no team."""
    user: str
    provider: str
    kind: GrantKind = GrantKind.PROVIDER_TOKEN

    @classmethod
    def offline(cls, user: str) -> GrantKey:
        """That of a user's offline token."""
        return cls(TeamId(""), user, OFFLINE_PROVIDER, GrantKind.OFFLINE_TOKEN)

    @property
    def record_id(self) -> str:
        """Of the record: names have no dot, so that no two keys share one."""
        if self.kind is GrantKind.OFFLINE_TOKEN:
            return f"offline.{self.user}"
        return f"grant.{self.team}.{self.user}.{self.provider}"

    @property
    def lease(self) -> str:
        """Name of the lease under which it is refreshed."""
        return f"refresh:{self.record_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the provider gave. Times are seconds since the Unix epoch, 0 for never."""

    access_token: Secret | None
    """None before the first refresh of an offline token."""
    refresh_token: Secret | None
    access_token_expires_at: float
    refresh_token_expires_at: float
    issued_at: float
    """When the access token was asked for: its life begins here."""
    scopes: tuple[str, ...] = ()
    account: str | None = None
    """Who the person is at the provider, where it says so."""
    connected_at: float = 0.0
    dead: str | None = None
    """Why the person has to connect anew: a word; None while nothing says so."""
    version: int = 0
    """Of the record; 0 while there is none."""

    def is_access_token_valid(self, now: float) -> bool:
        """Whether the access token lasts for a call."""
        return self.access_token is not None and _lasts(self.access_token_expires_at, now, self._buffer)

    def is_refresh_token_valid(self, now: float) -> bool:
        """Whether there is a refresh token, and it has not run out."""
        return self.refresh_token is not None and _lasts(self.refresh_token_expires_at, now, BUFFER)

    def is_refresh_due(self, now: float, margin: float) -> bool:
        """Whether the access token is to be refreshed.

        Args:
            now: seconds since the Unix epoch.
            margin: seconds before its end, as configured.
        """
        if self.access_token is None:
            return True
        lead = max(min(margin, self._life * _SHARE), self._buffer)
        return not _lasts(self.access_token_expires_at, now, lead)

    @property
    def _life(self) -> float:
        return max(self.access_token_expires_at - self.issued_at, 0.0)

    @property
    def _buffer(self) -> float:
        return min(BUFFER, self._life * _SHARE)


def _lasts(expires_at: float, now: float, margin: float) -> bool:
    return expires_at == 0 or now < expires_at - margin


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A grant as it is sealed. Fields may be added, none be renamed."""

    access_token: str | None
    refresh_token: str | None
    access_token_expires_at: float
    refresh_token_expires_at: float
    issued_at: float
    scopes: tuple[str, ...] = ()
    account: str | None = None
    connected_at: float = 0.0
    dead: str | None = None

    def __repr__(self) -> str:
        return "_Kept(***)"


def seal_grant(envelope: Envelope, key: GrantKey, grant: Grant, *, version: int, now: float) -> Record:
    """The record of a grant.

    Args:
        envelope: seals.
        key: whose it is.
        grant: as it is to be kept.
        version: of the record.
        now: seconds since the Unix epoch.
    """
    kept = _Kept(
        access_token=_revealed(grant.access_token),
        refresh_token=_revealed(grant.refresh_token),
        access_token_expires_at=grant.access_token_expires_at,
        refresh_token_expires_at=grant.refresh_token_expires_at,
        issued_at=grant.issued_at,
        scopes=grant.scopes,
        account=grant.account,
        connected_at=grant.connected_at,
        dead=grant.dead,
    )
    record = Record(
        id=key.record_id,
        kind=key.kind.value,
        team=key.team,
        user=key.user,
        provider=key.provider,
        version=version,
        sealed="",
        updated_at=now,
    )
    sealed = envelope.seal(msgspec.json.encode(kept), record.context())
    return msgspec.structs.replace(record, sealed=sealed)


def open_grant(envelope: Envelope, key: GrantKey, record: Record) -> Grant:
    """The grant in a record.

    Args:
        envelope: opens.
        key: whose it must be, whatever the record says of itself.
        record: as the store gave it.

    Raises:
        SealError: the record was altered, or is of somebody else (criterion C1); or its key is missing.
    """
    context = SealContext(
        kind=key.kind.value,
        team=key.team,
        owner=key.user,
        name=key.provider,
        id=key.record_id,
        version=record.version,
    )
    kept = msgspec.json.decode(envelope.open(record.sealed, context).reveal(), type=_Kept)
    return Grant(
        access_token=_secret(kept.access_token),
        refresh_token=_secret(kept.refresh_token),
        access_token_expires_at=kept.access_token_expires_at,
        refresh_token_expires_at=kept.refresh_token_expires_at,
        issued_at=kept.issued_at,
        scopes=kept.scopes,
        account=kept.account,
        connected_at=kept.connected_at,
        dead=kept.dead,
        version=record.version,
    )


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _secret(text: str | None) -> Secret | None:
    return None if text is None else Secret(text)
