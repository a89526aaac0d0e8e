"""Signed checkpoints: who alters the log after one, and has not the key, cannot hide it.

Every hundred rows one is signed with the row; a task sees to it that no row is older than an hour without one, and one
is signed when the server ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy import BigInteger, func, insert, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.chain import Checkpoint
from api_server.audit.keys import CheckpointSigner
from api_server.audit.tables import audit_checkpoints, audit_head, audit_log
from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError, DatabaseError
from common.clock import Clock
from common.logging import Logger, get_logger

__all__ = ["CheckpointTask", "Checkpoints"]

_MAX_AGE: Final = 3600.0
"""Seconds that a row may be without a checkpoint."""

_LOOK_EVERY: Final = 60.0
"""Seconds between two looks."""


class Checkpoints:
    """Writes checkpoints.

    Args:
        signer: with the key.
    """

    def __init__(self, signer: CheckpointSigner) -> None:
        self._signer = signer

    async def sign(self, tx: AsyncConnection, seq: int, digest: str, time: int) -> None:
        """Sign a row.

        Args:
            tx: the transaction to do it in.
            seq: number of the row.
            digest: its hash.
            time: microseconds since the Unix epoch.
        """
        checkpoint = Checkpoint(seq=seq, hash=digest, time=time, key_id=self._signer.key_id)
        await tx.execute(
            insert(audit_checkpoints).values(
                seq=seq,
                hash=digest,
                time=type_coerce(time, BigInteger()),
                key_id=checkpoint.key_id,
                signature=self._signer.sign(checkpoint),
            )
        )


class CheckpointTask:
    """Signs what the log itself has not, because too few rows came after it.

    Args:
        database: with the log.
        checkpoints: writes them.
        clock: wall time.
        sleep: waits for so many seconds.
        log: says when it cannot.
    """

    def __init__(
        self,
        database: Database,
        checkpoints: Checkpoints,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._checkpoints = checkpoints
        self._clock = clock
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)

    async def run(self) -> None:
        """Sign the newest row whenever one has been without a checkpoint for an hour, until cancelled."""
        while True:
            await self.sign(older_than=_MAX_AGE)
            await self._sleep(_LOOK_EVERY)

    async def sign(self, *, older_than: float = 0.0) -> bool:
        """Sign the newest row, if the oldest one without a checkpoint is older than so many seconds.

        Returns:
            Whether it did. A failure is logged: the next look comes.
        """
        try:
            return await self._database.write(lambda tx: self._sign(tx, older_than))
        except DatabaseConflictError:
            return False  # another process was faster
        except DatabaseError as exc:
            self._log.warning("no checkpoint of the audit log", code=exc.code, detail=exc.detail)
            return False

    async def _sign(self, tx: AsyncConnection, older_than: float) -> bool:
        newest = await tx.scalar(select(func.coalesce(func.max(audit_checkpoints.c.seq), 0)))
        oldest = await tx.scalar(
            select(type_coerce(audit_log.c.time, BigInteger()))
            .where(audit_log.c.seq > newest)
            .order_by(audit_log.c.seq)
            .limit(1)
        )
        now = round(self._clock.wall() * 1_000_000)
        if oldest is None or now - oldest < older_than * 1_000_000:
            return False
        head = (await tx.execute(select(audit_head.c.seq, audit_head.c.hash).with_for_update())).one()
        if head.seq <= newest:
            return False
        await self._checkpoints.sign(tx, head.seq, head.hash, now)
        return True
