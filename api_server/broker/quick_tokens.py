"""`GET /api/token` as it is asked thousands of times a second: from memory, on the connection itself.

    head, as it came ── seen before? ── who asks, which token ──> may they? ──> in memory? ──> the response

Nothing is decided once and for all: whose token it is, what that may do and whether the provider's token still holds
is asked of their owners for each request, exactly as the endpoint does. What is kept of a head is where its parts are.
With limits on requests, which are counted and shown elsewhere, there are no quick answers.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol
from urllib.parse import parse_qsl

from api_server.auth.credentials import presented
from api_server.auth.errors import AuthError
from api_server.auth.interfaces import Action, Authenticator, Identity
from api_server.broker.tokens import TokenBroker
from api_server.http.browsers import SECURITY_HEADERS
from api_server.http.metrics import RestMetrics
from api_server.http.quick import plain_head
from common.clock import Clock
from common.errors import HomeportError
from common.ids import TeamId
from common.secret import Secret

__all__ = ["Idle", "QuickTokens"]

_MOST = 4096
"""Heads that are remembered."""

_FIXED = b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in SECURITY_HEADERS.items())


class Idle(Protocol):
    """What `Limiter` is, as far as it matters here."""

    @property
    def idle(self) -> bool:
        """Whether nobody's requests are counted."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where the parts of a head are."""

    token: slice
    team: TeamId | None
    realm: str
    key: str


class QuickTokens:
    """Implements `QuickAnswers`.

    Args:
        authenticator: knows who asks.
        broker: has the tokens.
        metrics: counts, as for every other request.
        clock: wall time.
        limits: says whether requests are counted; None when they never are.
    """

    prefix = b"GET /api/token?"

    def __init__(
        self,
        authenticator: Authenticator,
        broker: TokenBroker,
        metrics: RestMetrics,
        clock: Clock,
        limits: Idle | None = None,
    ) -> None:
        self._authenticate = authenticator.authenticate_nowait
        self._entry = broker.entry_nowait
        self._clock = clock
        self._limits = limits
        self._count = metrics.requests.labels("/api/token", "GET", "200").inc
        self._observe = metrics.seconds.labels("/api/token").observe
        self._key = secrets.token_bytes(16)
        self._heads: dict[bytes, _Asked] = {}
        self._date_at = 0
        self._date = b""

    def answer(self, head: bytes, address: str) -> bytes | None:
        if self._limits is not None and not self._limits.idle:
            return None
        started = time.perf_counter()
        name = hashlib.blake2b(head, digest_size=16, key=self._key).digest()
        asked = self._heads.get(name)
        if asked is None:
            asked = _read(head)
            if asked is None:
                return None
            if len(self._heads) >= _MOST:
                self._heads.clear()
            self._heads[name] = asked
        try:
            identity = self._authenticate(Secret(head[asked.token].decode("ascii")), address=address)
        except HomeportError:
            return None
        if not isinstance(identity, Identity):
            return None
        team = asked.team
        if team is None:
            if len(identity.teams) != 1:
                return None
            (team,) = identity.teams
        if not identity.may(Action.REALM_TOKENS_GET, team):
            return None
        entry = self._entry(team, asked.realm, asked.key)
        if entry is None:
            return None
        now = self._clock.wall()
        left = b"null" if entry.expires_at is None else b"%d" % max(0, round((entry.expires_at - now) * 1000))
        if int(now) != self._date_at:
            self._date_at = int(now)
            self._date = formatdate(now, usegmt=True).encode("ascii")
        response = (
            b"HTTP/1.1 200 OK\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n"
            b"X-Request-Id: req_%b\r\n\r\n%b%b}"
            % (
                _FIXED,
                len(entry.head) + len(left) + 1,
                self._date,
                secrets.token_hex(12).encode("ascii"),
                entry.head,
                left,
            )
        )
        self._count()
        self._observe(time.perf_counter() - started)
        return response


def _read(head: bytes) -> _Asked | None:
    """Where the parts are; None when anything is unusual."""
    plain = plain_head(head)
    if plain is None:
        return None
    target, fields = plain
    query = target.partition(b"?")[2]
    if any(each in query for each in b"%+#;"):
        return None
    try:
        items = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=4)
        shown = presented(fields, query)
    except (ValueError, AuthError):
        return None
    given = dict(items)
    if shown is None or len(given) != len(items) or not given.keys() <= {"realm", "key", "team", "flush"}:
        return None
    if given.get("flush", "false") != "false" or "realm" not in given or "key" not in given:
        return None
    token = shown.credential.reveal().encode("ascii")
    if head.count(token) != 1:  # of Basic, it does not stand there as it is
        return None
    start = head.index(token)
    team = given.get("team")
    return _Asked(
        slice(start, start + len(token)), None if team is None else TeamId(team), given["realm"], given["key"]
    )
