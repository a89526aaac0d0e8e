"""Revokes what devices dial in with, and keeps it revoked.

    DELETE /api/.../session-tokens/{id}
        1. into the ledger, in the database
        2. to the relay: the live session is closed, later handshakes are refused
    the relay restarted, or did not answer in step 2
        3. all that is in the ledger to the relay, again and again until it has it

A relay that has just started may admit a revoked device until step 3; with its setting `await_revocations` it admits
nobody until then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from api_server.db.errors import DatabaseError
from api_server.devices.interfaces import RelayRevocations, Revocation
from api_server.devices.ledger import RevocationLedger
from api_server.relay.events import SessionEvent
from common.backoff import Backoff
from common.clock import Clock
from common.crypto.session_tokens import CredentialId
from common.ids import TeamId
from common.logging import Logger, get_logger
from common.sessions.errors import SessionStoreError

__all__ = ["RevocationService"]


class RevocationService:
    """Implements `Revoker`, and `api_server.relay.feed.EventListener`.

    Args:
        ledger: what is in force.
        relay: enforces it.
        clock: wall time.
        backoff: delays between attempts to tell the relay.
        sleep: waits for so many seconds.
        log: says when the relay was told.
    """

    def __init__(
        self,
        ledger: RevocationLedger,
        relay: RelayRevocations,
        *,
        clock: Clock,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._ledger = ledger
        self._relay = relay
        self._clock = clock
        self._backoff = backoff if backoff is not None else Backoff(base=0.2, maximum=5.0)
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._owed = asyncio.Event()
        """The relay has to be told."""
        self._owed.set()

    @property
    def settled(self) -> bool:
        """Whether the relay knows all that is revoked, as far as is known here."""
        return not self._owed.is_set()

    async def revoke_credential(self, team: TeamId, credential: CredentialId, *, expires_at: float) -> None:
        """As `Revoker` says. When it raises, the revocation is kept all the same, and the relay is told as soon as it
        answers again.

        Raises:
            DatabaseError: it could not be kept, and nothing has been done.
            RelayUnavailableError: it is kept, and not yet in force.
        """
        revocation = Revocation(id=credential, kind="credential", team=team, expires_at=expires_at)
        await self._ledger.add(revocation, self._clock.wall())
        try:
            await self._relay.revoke_credential(team, credential, expires_at=expires_at)
        except BaseException:
            self._owed.set()
            raise

    def session_changed(self, event: SessionEvent) -> None:
        """Of no concern here."""

    def events_lost(self) -> None:
        """The relay may be another one than before."""
        self._owed.set()

    async def run(self) -> None:
        """Tell the relay whenever it has to be told, until cancelled."""
        while True:
            await self._owed.wait()
            # Before the ledger is read: what comes during the call is told by another one.
            self._owed.clear()
            try:
                revocations = await self._ledger.in_force(self._clock.wall())
                await self._relay.tell_revocations(revocations)
            except (SessionStoreError, DatabaseError) as exc:
                self._owed.set()
                if self._backoff.attempts == 0:
                    self._log.warning("the relay does not know what is revoked", code=exc.code, detail=exc.detail)
                await self._sleep(self._backoff.next_delay(exc.retry_after))
            else:
                self._backoff.connected_for(math.inf)
                self._log.info("the relay knows what is revoked", revocations=len(revocations))
