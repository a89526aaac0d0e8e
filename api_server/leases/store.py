"""Leases in the database, which every process shares.

A fencing token is the moment at which the lease was taken, in microseconds, or one more than the token before if that
is greater: so tokens grow even after the row of a name was dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator

from sqlalchemy import case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError, DatabaseError
from api_server.leases.errors import LeaseLostError
from api_server.leases.interfaces import Lease
from api_server.leases.tables import leases
from common.clock import Clock
from common.logging import get_logger

__all__ = ["DatabaseLeases"]

_RENEWALS = 3
"""In the time that a lease lasts: two may fail."""


class DatabaseLeases:
    """Implements `Leases`.

    Args:
        database: that the processes share.
        clock: wall time.
        owner: names this process; by default its number and some random digits.
    """

    def __init__(self, database: Database, clock: Clock, *, owner: str | None = None) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner if owner is not None else f"{os.getpid()}-{secrets.token_hex(8)}"
        self._log = get_logger(__name__)

    async def acquire(self, name: str, seconds: float) -> Lease | None:
        async def work(tx: AsyncConnection) -> Lease | None:
            now = self._clock.wall()
            moment, expires_at = round(now * 1_000_000), now + seconds
            token = case((leases.c.token >= moment, leases.c.token + 1), else_=moment)
            taken = await tx.execute(
                update(leases)
                .where(leases.c.name == name, leases.c.expires_at <= now)
                .values(owner=self._owner, token=token, expires_at=expires_at)
            )
            if taken.rowcount:
                found = (await tx.execute(select(leases.c.token).where(leases.c.name == name))).scalar_one()
                return Lease(name, self._owner, found, expires_at)
            if (await tx.execute(select(leases.c.name).where(leases.c.name == name))).first() is not None:
                return None
            await tx.execute(insert(leases).values(name=name, owner=self._owner, token=moment, expires_at=expires_at))
            return Lease(name, self._owner, moment, expires_at)

        try:
            return await self._database.write(work)
        except DatabaseConflictError:  # somebody else made the row first
            return None

    async def renew(self, lease: Lease, seconds: float) -> Lease:
        expires_at = self._clock.wall() + seconds

        async def work(tx: AsyncConnection) -> Lease:
            await self.check(tx, lease)
            await tx.execute(update(leases).where(leases.c.name == lease.name).values(expires_at=expires_at))
            return Lease(lease.name, lease.owner, lease.token, expires_at)

        return await self._database.write(work)

    async def release(self, lease: Lease) -> None:
        async def work(tx: AsyncConnection) -> None:
            await tx.execute(
                update(leases).where(leases.c.name == lease.name, leases.c.token == lease.token).values(expires_at=0.0)
            )

        await self._database.write(work)

    async def check(self, tx: AsyncConnection, lease: Lease) -> None:
        token = (await tx.execute(select(leases.c.token).where(leases.c.name == lease.name).with_for_update())).scalar()
        if token != lease.token:
            raise LeaseLostError(f"another process has taken over {lease.name}")

    async def until(self, name: str) -> float | None:
        async def work(tx: AsyncConnection) -> float | None:
            expires_at: float | None = (
                await tx.execute(select(leases.c.expires_at).where(leases.c.name == name))
            ).scalar()
            return expires_at

        expires_at = await self._database.read(work)
        return expires_at if expires_at is not None and expires_at > self._clock.wall() else None

    @contextlib.asynccontextmanager
    async def hold(self, name: str, seconds: float) -> AsyncIterator[Lease | None]:
        lease = await self.acquire(name, seconds)
        if lease is None:
            yield None
            return
        renewing = asyncio.get_running_loop().create_task(self._renew(lease, seconds), name=f"renew {name}")
        try:
            yield lease
        finally:
            renewing.cancel()
            try:
                await self.release(lease)
            except DatabaseError as exc:
                self._log.warning("a lease could not be given back", lease=name, code=exc.code)

    async def forget(self, tx: AsyncConnection, name: str) -> None:
        await tx.execute(delete(leases).where(leases.c.name == name))

    async def _renew(self, lease: Lease, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds / _RENEWALS)
            try:
                await self.renew(lease, seconds)
            except LeaseLostError:
                self._log.warning("a lease was lost", lease=lease.name)
                return
            except DatabaseError as exc:
                self._log.warning("a lease could not be renewed", lease=lease.name, code=exc.code)
