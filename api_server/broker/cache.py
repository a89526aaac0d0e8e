"""Tokens in the memory of a process.

Invariants: nothing is served once a change of its realm, its secret or itself was heard of, or while changes may have
been missed (`Freshness`); an answer of the database that was asked for before such a change is not kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from api_server.broker.records import TokenKey
from api_server.changes.interfaces import Change, Freshness, Topic
from common.secret import Secret

__all__ = ["Entry", "TokenCache"]

_MOST = 50_000
"""Tokens; beyond that all are dropped, and read again as they are asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A token that may be served."""

    token: Secret
    token_type: str
    expires_at: float | None
    """As it is shown; None for never. Seconds since the Unix epoch, as all times here."""
    due_at: float
    """From then on somebody has to look for the next one."""
    until: float
    """From then on it is not served."""
    head: bytes = field(repr=False)
    """The answer up to the value of `expires_in`, made once."""


class TokenCache:
    """Implements `ChangeListener`.

    Args:
        freshness: whether it may be trusted.
    """

    topic = Topic.REALMS

    def __init__(self, freshness: Freshness) -> None:
        self._fresh = freshness.fresh
        self._by_realm: dict[tuple[str, str], dict[str, Entry]] = {}
        self._count = 0
        self._moves = 0
        self._waiting: dict[TokenKey, asyncio.Event] = {}

    def __repr__(self) -> str:
        return f"<TokenCache: {self._count} tokens>"

    def get(self, team: str, realm: str, key: str, now: float) -> Entry | None:
        """The token, if it may be served."""
        of_realm = self._by_realm.get((team, realm))
        if of_realm is None:
            return None
        entry = of_realm.get(key)
        return entry if entry is not None and now < entry.until and self._fresh() else None

    def mark(self) -> int:
        """Take it before the database is asked."""
        return self._moves

    def put(self, key: TokenKey, entry: Entry, mark: int) -> None:
        """Keep what the database has said, unless something was changed since `mark`."""
        if mark != self._moves:
            return
        if self._count >= _MOST:
            self._by_realm.clear()
            self._count = 0
        of_realm = self._by_realm.setdefault((key.team, key.realm), {})
        self._count += key.key not in of_realm
        of_realm[key.key] = entry

    async def wait_for_change(self, key: TokenKey, seconds: float) -> None:
        """Until something of the token is changed anywhere, or the time is over."""
        event = self._waiting.setdefault(key, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            if self._waiting.get(key) is event:
                del self._waiting[key]

    # ChangeListener

    def changed(self, change: Change) -> None:
        self._moves += 1
        realm, _, key = change.subject.partition("/")
        name = (change.team or "", realm)
        if not key:
            self._count -= len(self._by_realm.pop(name, ()))
        elif (of_realm := self._by_realm.get(name)) is not None and of_realm.pop(key, None) is not None:
            self._count -= 1
        for waiting in [each for each in self._waiting if (each.team, each.realm) == name and key in ("", each.key)]:
            self._waiting.pop(waiting).set()

    def all_changed(self) -> None:
        self._moves += 1
        self._by_realm.clear()
        self._count = 0
        for event in self._waiting.values():
            event.set()
        self._waiting.clear()
