"""Devices and credentials that may not come back, and the live tunnels that they hold.

A revocation lives in memory until the tokens it is about have expired anyway. `revoke` closes what is live within the
call; a handshake that was admitted just before is caught when its tunnel attaches. Everything here is synchronous, so
that there is no moment between the check and the entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

from common.ids import TeamId

__all__ = ["Revocable", "RevocationKey", "RevocationKind", "Revocations"]


class RevocationKind(StrEnum):
    """What was revoked."""

    DEVICE = "device"
    """A device, whatever credential it shows."""
    CREDENTIAL = "credential"
    """One session token (its `jti`), whichever device shows it."""


class RevocationKey(NamedTuple):
    """Names what is revoked. The team is part of it: another team's id is never meant."""

    kind: RevocationKind
    team: TeamId
    id: str


class Revocable(Protocol):
    """A live tunnel, as far as a revocation goes."""

    @property
    def revocation_keys(self) -> tuple[RevocationKey, ...]:
        """What it was admitted as; does not change."""
        ...

    def close(self, reason: str) -> None:
        """End it at once."""
        ...


class Revocations:
    """The revocations in force, and who is live under which key."""

    __slots__ = ("_expiry", "_live", "told")

    def __init__(self) -> None:
        self._expiry: dict[RevocationKey, float] = {}
        # Nearly every key has one tunnel, and a set for it would cost more than the rest of its entry.
        self._live: dict[RevocationKey, Revocable | set[Revocable]] = {}
        self.told = False
        """Whether somebody has told this process, since it started, of what was revoked before."""

    def __len__(self) -> int:
        return len(self._expiry)

    def __iter__(self) -> Iterator[tuple[RevocationKey, float]]:
        return iter(self._expiry.items())

    def revoke(self, key: RevocationKey, expires_at: float) -> int:
        """Refuse `key` until `expires_at` (Unix seconds) and close its live tunnels; returns how many those were.

        Said twice, the later expiry holds: a late repetition never shortens a revocation.
        """
        self._expiry[key] = max(expires_at, self._expiry.get(key, 0.0))
        live = self._live.get(key, ())
        closed = tuple(live) if isinstance(live, set | tuple) else (live,)
        for tunnel in closed:
            tunnel.close("revoked")
        return len(closed)

    def restore(self, key: RevocationKey) -> bool:
        """Admit `key` again; returns whether it was revoked."""
        return self._expiry.pop(key, None) is not None

    def revoked(self, keys: tuple[RevocationKey, ...], wall: float) -> bool:
        """Whether one of `keys` is revoked at `wall` (Unix seconds)."""
        expiry = self._expiry
        if not expiry:
            return False
        return any(expiry.get(key, 0.0) > wall for key in keys)

    def attach(self, tunnel: Revocable) -> None:
        """A tunnel went live under its keys. The caller has checked `revoked` in the same turn of the loop."""
        for key in tunnel.revocation_keys:
            live = self._live.setdefault(key, tunnel)
            if isinstance(live, set):
                live.add(tunnel)
            elif live is not tunnel:
                self._live[key] = {live, tunnel}

    def detach(self, tunnel: Revocable) -> None:
        """A tunnel ended; one that is not attached is no error."""
        for key in tunnel.revocation_keys:
            live = self._live.get(key)
            if isinstance(live, set):
                live.discard(tunnel)
                if live:
                    continue
            if live is tunnel or isinstance(live, set):
                del self._live[key]

    def prune(self, wall: float) -> int:
        """Forget the revocations that have expired; returns how many."""
        expired = [key for key, expiry in self._expiry.items() if expiry <= wall]
        for key in expired:
            del self._expiry[key]
        return len(expired)
