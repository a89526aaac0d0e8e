"""Tokens that were verified, remembered by their keyed hash; and hashes that were found to be nobody's.

Invariants: an entry is dropped when its token changes, or the rights of its issuer, or when anything may have been
missed. An answer that was asked for before such a change and arrives after it is not kept: a revoked token is not
brought back by a slow look-up (T3). Size and age are bounded; time is passed in.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from typing import Final

from api_server.auth.interfaces import Identity
from api_server.changes.interfaces import Change, ChangeListener, Topic
from api_server.tokens.records import LiveToken

__all__ = ["Verified", "VerifiedTokens"]

_MAX_AGE: Final = 300.0
"""Seconds after which one looks again though nothing is known to have changed: somebody may have edited the tables."""

_NEVER: Final = float("inf")


class Verified:
    """A token, whom it stands for, and from where.

    Args:
        token: as it was found.
        identity: that it stands for.
        asked_at: when the question was put; seconds, monotonic.
    """

    __slots__ = ("_allowed", "_networks", "asked_at", "expires_at", "identity", "issuer", "noted", "used_at")

    def __init__(self, token: LiveToken, identity: Identity, asked_at: float) -> None:
        self.identity = identity
        self.issuer = token.issuer
        self.expires_at = token.expires_at if token.expires_at is not None else _NEVER
        """Seconds since the Unix epoch."""
        self.asked_at = asked_at
        self.used_at = 0.0
        self.noted = False
        """Both are of `LastUse`. They are here because whoever is asked about has been found here already: with many
        tokens, each place in memory that is looked at costs more than what is done there.
        """
        self._networks = tuple(ipaddress.ip_network(each) for each in token.addresses)
        self._allowed: str | None = None
        """The last address that was found to be allowed."""

    def allows(self, address: str) -> bool:
        """Whether the token may be used from `address`."""
        if not self._networks or address == self._allowed:
            return True
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if not any(parsed in network for network in self._networks):
            return False
        self._allowed = address
        return True


class VerifiedTokens:
    """What is remembered.

    Args:
        limit: tokens, and as many hashes that are nobody's.
        max_age: seconds for which either is remembered.
    """

    __slots__ = ("_known", "_limit", "_max_age", "_of_token", "_second", "_unknown", "counter")

    def __init__(self, *, limit: int = 20_000, max_age: float = _MAX_AGE) -> None:
        self._limit = limit
        self._max_age = max_age
        self._second = 0.0
        """The last one in which a token was asked about, for all of that second to share."""
        self._known: dict[bytes, Verified] = {}
        self._of_token: dict[str, set[bytes]] = {}
        """Two hashes of one token during the overlap of a rotation."""
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self.counter = 0
        """Grows when something is forgotten; take it before asking."""

    def __len__(self) -> int:
        """Tokens that are remembered."""
        return len(self._known)

    def get(self, digest: bytes, now: float) -> Verified | None:
        """What is remembered of a token, if it is young enough.

        Args:
            digest: its hash.
            now: seconds, monotonic.
        """
        known = self._known.get(digest)
        return known if known is not None and now - known.asked_at < self._max_age else None

    def nobody(self, digest: bytes, now: float) -> bool:
        """Whether a hash is remembered to be nobody's."""
        asked_at = self._unknown.get(digest)
        return asked_at is not None and now - asked_at < self._max_age

    def keep(self, digest: bytes, found: Verified, *, counter: int) -> None:
        """Remember a token, unless something was forgotten since `counter` was taken."""
        if counter != self.counter:
            return
        self._drop(digest)
        second = math.floor(found.asked_at)
        if second != self._second:
            self._second = float(second)
        found.asked_at = self._second  # as with the notes of `LastUse`: one place in memory less to look at
        while len(self._known) >= self._limit:
            self._drop(next(iter(self._known)))
        self._known[digest] = found
        self._of_token.setdefault(found.identity.id, set()).add(digest)

    def keep_nobody(self, digest: bytes, asked_at: float, *, counter: int) -> None:
        """Remember that a hash is nobody's."""
        if counter != self.counter:
            return
        self._drop(digest)
        self._unknown[digest] = asked_at
        if len(self._unknown) > self._limit:
            self._unknown.popitem(last=False)

    def forget(self, token: str) -> None:
        """Something about a token has changed."""
        self.counter += 1
        self._unknown.clear()
        for digest in tuple(self._of_token.get(token, ())):
            self._drop(digest)

    def forget_issuer(self, user: str) -> None:
        """What a user may do has changed."""
        self.counter += 1
        self._unknown.clear()
        held = [digest for digest, known in self._known.items() if known.issuer.id == user]
        for digest in held:
            self._drop(digest)

    def forget_all(self) -> None:
        """Anything may have changed."""
        self.counter += 1
        self._unknown.clear()
        self._known.clear()
        self._of_token.clear()

    def listeners(self) -> tuple[ChangeListener, ...]:
        """What is to be told of changes."""
        return _OfTokens(self), _OfPeople(self)

    def _drop(self, digest: bytes) -> None:
        known = self._known.pop(digest, None)
        if known is not None:
            digests = self._of_token[known.identity.id]
            digests.discard(digest)
            if not digests:
                del self._of_token[known.identity.id]


class _OfTokens:
    """Implements `ChangeListener`."""

    def __init__(self, cache: VerifiedTokens) -> None:
        self.topic = Topic.TOKENS
        self._cache = cache

    def changed(self, change: Change) -> None:
        self._cache.forget(change.subject)

    def all_changed(self) -> None:
        self._cache.forget_all()


class _OfPeople:
    """Implements `ChangeListener`."""

    def __init__(self, cache: VerifiedTokens) -> None:
        self.topic = Topic.PEOPLE
        self._cache = cache

    def changed(self, change: Change) -> None:
        self._cache.forget_issuer(change.subject)

    def all_changed(self) -> None:
        self._cache.forget_all()
