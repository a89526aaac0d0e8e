"""What is under way in the name of people's browsers, looked at again while it lasts: a page's WebSocket or event
stream ends with its person's session, as the next request would be refused.

Whose session it is was asked when it began; here it is asked again about once a second, for all that is under way with
the same cookies at once. While that cannot be told, what is under way goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from api_server.auth.browsers import BrowserSignIn
from api_server.auth.interfaces import Decision
from api_server.gateway.targets import Target
from common.errors import HomeportError

if TYPE_CHECKING:
    from api_server.gateway.metering import MeteredConnection

__all__ = ["Visits"]

_log = structlog.get_logger(__name__)


class Visits:
    """Requests and upgrades of browsers.

    Args:
        browsers: knows whose they are.
    """

    __slots__ = ("_browsers", "_checking", "_under_way")

    def __init__(self, browsers: BrowserSignIn) -> None:
        self._browsers = browsers
        self._under_way: dict[MeteredConnection, tuple[str, Target]] = {}
        self._checking = False

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def due(self) -> bool:
        """Whether there is anything to look at, and nobody does."""
        return bool(self._under_way) and not self._checking

    def enter(self, connection: MeteredConnection, cookies: str, target: Target) -> None:
        """A browser was let through.

        Args:
            connection: that its request is on; it says when that is over.
            cookies: that it showed.
            target: where it went.
        """
        self._under_way[connection] = (cookies, target)

    def leave(self, connection: MeteredConnection) -> None:
        """What was under way on a connection is over."""
        self._under_way.pop(connection, None)

    async def check(self) -> None:
        """Cut what may not go on. It does not raise."""
        self._checking = True
        try:
            allowed: dict[tuple[str, str], bool] = {}
            for connection, (cookies, target) in list(self._under_way.items()):
                key = (cookies, target.realm)
                if key not in allowed:
                    identity = await self._browsers.authenticate(cookies, target.realm)
                    allowed[key] = identity is not None and identity.decide_call(target) is Decision.ALLOWED
                if not allowed[key] and connection in self._under_way:
                    connection.cut()
        except HomeportError as exc:
            _log.warning("browsers under way cannot be looked at", code=exc.code, detail=exc.detail)
        except Exception:
            _log.exception("browsers under way cannot be looked at")
        finally:
            self._checking = False
