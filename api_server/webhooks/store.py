"""Webhooks in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.webhooks.records import Webhook
from api_server.webhooks.tables import webhook_deliveries, webhook_events, webhooks
from common.ids import TeamId

__all__ = ["SealedSecrets", "WebhookStore"]


class SealedSecrets(NamedTuple):
    """The secrets of a webhook, sealed."""

    secret: str
    version: int
    old: str | None
    """Of the version before."""


class WebhookStore:
    """SQL for webhooks; it decides nothing."""

    __slots__ = ()

    async def get(self, tx: AsyncConnection, team: TeamId, webhook: str, *, lock: bool = False) -> Webhook | None:
        """A webhook of a team."""
        query = select(webhooks).where(webhooks.c.team_id == team, webhooks.c.id == webhook)
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return None if row is None else _webhook(row)

    async def find(self, tx: AsyncConnection, webhook: str) -> tuple[Webhook, SealedSecrets] | None:
        """A webhook of whatever team, with what it signs with."""
        row = (await tx.execute(select(webhooks).where(webhooks.c.id == webhook))).first()
        if row is None:
            return None
        return _webhook(row), SealedSecrets(row.secret, row.secret_version, row.old_secret)

    async def those_of(self, tx: AsyncConnection, team: TeamId, *, limit: int, after: str | None) -> list[Webhook]:
        """Webhooks of a team in the order of their ids, at most `limit`."""
        query = select(webhooks).where(webhooks.c.team_id == team).order_by(webhooks.c.id).limit(limit)
        if after is not None:
            query = query.where(webhooks.c.id > after)
        return [_webhook(row) for row in await tx.execute(query)]

    async def count(self, tx: AsyncConnection, team: TeamId) -> int:
        """How many a team has."""
        query = select(func.count()).select_from(webhooks).where(webhooks.c.team_id == team)
        return (await tx.execute(query)).scalar_one()

    async def teams(self, tx: AsyncConnection) -> frozenset[TeamId]:
        """The teams that have one which is not disabled."""
        rows = await tx.execute(select(webhooks.c.team_id).where(webhooks.c.disabled_at.is_(None)).distinct())
        return frozenset(TeamId(team) for team in rows.scalars())

    async def add(self, tx: AsyncConnection, webhook: Webhook, sealed: str) -> None:
        """Keep a new webhook."""
        kind, creator = webhook.creator
        await tx.execute(
            insert(webhooks).values(
                id=webhook.id,
                team_id=webhook.team,
                name=webhook.name,
                url=webhook.url,
                events=list(webhook.events),
                secret=sealed,
                secret_version=1,
                created_at=webhook.created_at,
                created_by_kind=kind,
                created_by=creator,
            )
        )

    async def change(self, tx: AsyncConnection, webhook: str, values: Mapping[str, object]) -> None:
        """Change columns of a webhook."""
        await tx.execute(update(webhooks).where(webhooks.c.id == webhook).values(**values))

    async def remove(self, tx: AsyncConnection, webhook: str) -> None:
        """Forget a webhook, and what is on its way to it."""
        await tx.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook))
        await tx.execute(delete(webhooks).where(webhooks.c.id == webhook))

    async def remove_team(self, tx: AsyncConnection, team: TeamId) -> Sequence[str]:
        """Forget all of a team. Returns the ids of its webhooks."""
        ids = (await tx.execute(select(webhooks.c.id).where(webhooks.c.team_id == team))).scalars().all()
        await tx.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id.in_(ids)))
        await tx.execute(delete(webhook_events).where(webhook_events.c.team_id == team))
        await tx.execute(delete(webhooks).where(webhooks.c.team_id == team))
        return ids


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        team=row.team_id,
        name=row.name,
        url=row.url,
        events=row.events,
        created_at=row.created_at,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        old_secret_until=row.old_secret_until,
    )
