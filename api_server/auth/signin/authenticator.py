"""The second source of identity: the session cookie of a person.

What the database says about a session holds for half a second. That is how long a session that another process ended,
a user whom somebody locked out, or a role that was taken away can still be used here; what this very process ends, ends
at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from api_server.auth.interfaces import Identity
from api_server.auth.signin.cache import RecentlyKnown
from api_server.auth.signin.cookies import Cookies, hash_session
from api_server.auth.signin.interfaces import LiveSession, SignInStore
from api_server.db.errors import DatabaseError
from api_server.teams.interfaces import Memberships
from api_server.teams.roles import actions_of, installation_actions_of
from common.clock import Clock
from common.logging import Logger, get_logger

__all__ = ["SessionAuthenticator"]

_KNOWN_FOR: Final = 0.5
"""Seconds; "within one second" is the promise, and the look into the database takes a part of it."""

_MAX_KNOWN = 10_000

_SEEN_INTERVAL = 60.0
"""Seconds between two times that the use of a session is written down."""


class SessionAuthenticator:
    """Knows people by their session cookie.

    Args:
        store: of sessions.
        cookies: reads the cookie.
        memberships: what people may do.
        clock: for the age of what is known, and of sessions.
        log: for what can wait.
    """

    def __init__(
        self,
        store: SignInStore,
        cookies: Cookies,
        memberships: Memberships,
        clock: Clock,
        *,
        log: Logger | None = None,
    ) -> None:
        self._store = store
        self._cookies = cookies
        self._memberships = memberships
        self._clock = clock
        self._log = log if log is not None else get_logger(__name__)
        self._known: RecentlyKnown[tuple[LiveSession, Identity]] = RecentlyKnown(lifetime=_KNOWN_FOR, limit=_MAX_KNOWN)

    async def authenticate_cookies(self, header: str) -> Identity | None:
        """Whose session the cookies of a request show; None when it is nobody's, or not any more.

        Args:
            header: all `Cookie` lines, joined by `; `.

        Raises:
            DatabaseError: it cannot be told.
        """
        found = await self.find(header)
        return None if found is None else found[1]

    async def session_of(self, header: str) -> LiveSession | None:
        """The session that the cookies of a request show.

        Raises:
            DatabaseError: it cannot be told.
        """
        found = await self.find(header)
        return None if found is None else found[0]

    async def find(self, header: str) -> tuple[LiveSession, Identity] | None:
        """The session that the cookies of a request show, and whose it is.

        Raises:
            DatabaseError: it cannot be told.
        """
        secret = self._cookies.read_session(header)
        if secret is None:
            return None
        key = hash_session(secret)
        return await self._look(key, lambda now: self._store.live_session(key, now))

    def identity_of_nowait(self, session: str) -> Identity | None:
        """Whose session has that id, if that is known without waiting."""
        known = self._known.get(session, self._clock.monotonic())
        return None if known is None else known[1]

    async def identity_of(self, session: str) -> Identity | None:
        """Whose session has that id; None when there is none, or not any more.

        Args:
            session: its id, which opens nothing: whoever asks has to know that it may be asked for.

        Raises:
            DatabaseError: it cannot be told.
        """
        found = await self._look(session, lambda now: self._store.session_by_id(session, now))
        return None if found is None else found[1]

    def forget(self) -> None:
        """A session has ended: look again."""
        self._known.forget()

    async def _look(
        self, key: str, ask: Callable[[float], Awaitable[LiveSession | None]]
    ) -> tuple[LiveSession, Identity] | None:
        asked_at, generation = self._clock.monotonic(), self._known.generation
        known = self._known.get(key, asked_at)
        if known is not None:
            return known
        now = self._clock.wall()
        session = await ask(now)
        if session is None:
            return None
        found = (session, await self._identify(session))
        self._known.put(key, found, asked_at=asked_at, generation=generation)
        if now - session.last_seen_at >= min(_SEEN_INTERVAL, session.idle_seconds / 4):
            try:
                await self._store.seen(session.id, now)
            except DatabaseError as exc:
                self._log.warning("the use of a session cannot be written down", session=session.id, detail=exc.detail)
        return found

    async def _identify(self, session: LiveSession) -> Identity:
        user = session.user
        roles = await self._memberships.teams_of(user.id)
        return Identity(
            kind="user",
            id=user.id,
            name=user.name,
            teams={team: actions_of(role) for team, role in roles.items()},
            installation=installation_actions_of(roles, await self._memberships.first_team()),
        )
