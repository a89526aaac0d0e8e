"""Upstream secrets in the database, sealed. Every call is part of the transaction that it is given."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.routing.records import StoredSecret
from api_server.routing.tables import upstream_secrets as table
from common.ids import TeamId

__all__ = ["SecretStore"]


class SecretStore:
    """SQL for upstream secrets; it decides nothing."""

    __slots__ = ()

    async def find(self, tx: AsyncConnection, team: TeamId, secret: str, *, lock: bool = False) -> StoredSecret | None:
        """A secret of a team, by id or name; `lock` holds it against other writers until the transaction ends."""
        query = select(table).where(table.c.team_id == team, or_(table.c.id == secret, table.c.name == secret))
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return None if row is None else _secret(row)

    async def those_of(self, tx: AsyncConnection, team: TeamId, *, limit: int, after: str | None) -> list[StoredSecret]:
        """Secrets of a team in the order of their names, at most `limit`."""
        query = select(table).where(table.c.team_id == team).order_by(table.c.name).limit(limit)
        if after is not None:
            query = query.where(table.c.name > after)
        return [_secret(row) for row in await tx.execute(query)]

    async def add(self, tx: AsyncConnection, secret: StoredSecret, sealed: str) -> None:
        """Keep a new secret.

        Raises:
            IntegrityError: the team has one of that name.
        """
        kind, creator = secret.creator
        await tx.execute(
            insert(table).values(
                id=secret.id,
                team_id=secret.team,
                name=secret.name,
                destination=secret.destination,
                value=sealed,
                version=secret.version,
                created_at=secret.created_at,
                created_by_kind=kind,
                created_by=creator,
                updated_at=secret.updated_at,
            )
        )

    async def change(self, tx: AsyncConnection, secret: StoredSecret, sealed: str) -> None:
        """Keep a new value of a secret."""
        await tx.execute(
            update(table)
            .where(table.c.id == secret.id)
            .values(value=sealed, version=secret.version, updated_at=secret.updated_at)
        )

    async def remove(self, tx: AsyncConnection, secret: str) -> None:
        """Forget a secret, by its id."""
        await tx.execute(delete(table).where(table.c.id == secret))

    async def remove_all_of(self, tx: AsyncConnection, team: TeamId) -> None:
        """Forget all secrets of a team."""
        await tx.execute(delete(table).where(table.c.team_id == team))


def _secret(row: Row[Any]) -> StoredSecret:
    return StoredSecret(
        id=row.id,
        name=row.name,
        team=row.team_id,
        destination=row.destination,
        version=row.version,
        created_at=row.created_at,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        updated_at=row.updated_at,
    )
