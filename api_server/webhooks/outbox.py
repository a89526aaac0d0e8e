"""What is on its way, in the database: events, and a delivery of each for every webhook that wants it.

    add        event and deliveries, in one transaction; an event that is there already adds nothing
    due        pending, not before its time, and not claimed by somebody who is still at it
    claim      one UPDATE that holds for whoever comes first; the claim is a fresh id each time
    settle     writes what came of it, if the claim still holds

A process that dies at a delivery leaves a claim that ends by itself: the event is then sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.webhooks.records import Delivery, DeliveryState, Event, matches
from api_server.webhooks.tables import webhook_deliveries, webhook_events, webhooks
from common.ids import new_id

__all__ = ["Outbox"]


_PENDING: Final = DeliveryState.PENDING.value
_AT_ONCE: Final = 500


class Outbox:
    """SQL for what is on its way; it decides nothing but who wants what.

    Args:
        most_pending: deliveries of one webhook; what comes while as many are pending is not sent to it.
    """

    __slots__ = ("_most_pending",)

    def __init__(self, most_pending: int = 10_000) -> None:
        self._most_pending = most_pending

    async def add(self, tx: AsyncConnection, event: Event, now: float) -> int:
        """Keep an event, and a delivery for each webhook of its team that wants it.

        Args:
            tx: the transaction.
            event: what happened.
            now: seconds since the Unix epoch.

        Returns:
            How many deliveries there are now that were not there before.
        """
        wanting = await self._wanting(tx, event)
        if not wanting or not await self._keep(tx, event):
            return 0
        await tx.execute(
            insert(webhook_deliveries),
            [_delivery_row(webhook, event.id, now) for webhook in wanting],
        )
        return len(wanting)

    async def add_for(self, tx: AsyncConnection, event: Event, webhook: str) -> str:
        """Keep an event for one webhook alone. Returns the id of the delivery."""
        await self._keep(tx, event)
        row = _delivery_row(webhook, event.id, event.time)
        await tx.execute(insert(webhook_deliveries).values(**row))
        return str(row["id"])

    async def _wanting(self, tx: AsyncConnection, event: Event) -> list[str]:
        rows = await tx.execute(
            select(webhooks.c.id, webhooks.c.events).where(
                webhooks.c.team_id == event.team, webhooks.c.disabled_at.is_(None)
            )
        )
        wanting = [row.id for row in rows if matches(row.events, event.type)]
        if not wanting:
            return []
        deliveries = webhook_deliveries.c
        full = await tx.execute(
            select(deliveries.webhook_id)
            .where(deliveries.webhook_id.in_(wanting), deliveries.state == _PENDING)
            .group_by(deliveries.webhook_id)
            .having(func.count() >= self._most_pending)
        )
        return sorted(set(wanting) - set(full.scalars()))

    async def _keep(self, tx: AsyncConnection, event: Event) -> bool:
        """Whether it is new."""
        values = {
            "id": event.id,
            "team_id": event.team,
            "type": event.type,
            "time": event.time,
            "data": dict(event.data),
        }
        statement: Any
        match tx.dialect.name:
            case "mysql":
                statement = mysql.insert(webhook_events).values(**values).prefix_with("IGNORE")
            case "postgresql":
                statement = postgresql.insert(webhook_events).values(**values).on_conflict_do_nothing()
            case _:
                statement = sqlite.insert(webhook_events).values(**values).on_conflict_do_nothing()
        return bool((await tx.execute(statement)).rowcount)

    async def due(
        self, tx: AsyncConnection, now: float, *, limit: int, without: Collection[str]
    ) -> list[tuple[str, str]]:
        """Deliveries that can be tried now, the longest due first.

        Args:
            tx: the transaction.
            now: seconds since the Unix epoch.
            limit: at most so many.
            without: webhooks that are busy enough.

        Returns:
            Ids of deliveries and of their webhooks.
        """
        deliveries = webhook_deliveries.c
        query = (
            select(deliveries.id, deliveries.webhook_id)
            .where(
                deliveries.state == _PENDING,
                deliveries.next_at <= now,
                or_(deliveries.claimed_until.is_(None), deliveries.claimed_until < now),
            )
            .order_by(deliveries.next_at)
            .limit(limit)
        )
        if without:
            query = query.where(deliveries.webhook_id.not_in(sorted(without)))
        return [(row.id, row.webhook_id) for row in await tx.execute(query)]

    async def claim(self, tx: AsyncConnection, delivery: str, now: float, seconds: float) -> str | None:
        """Take a delivery to send it. Returns the claim; None when somebody else was first."""
        deliveries, claim = webhook_deliveries.c, new_id("clm")
        taken = await tx.execute(
            update(webhook_deliveries)
            .where(
                deliveries.id == delivery,
                deliveries.state == _PENDING,
                or_(deliveries.claimed_until.is_(None), deliveries.claimed_until < now),
            )
            .values(claim=claim, claimed_until=now + seconds)
        )
        return claim if taken.rowcount else None

    async def load(self, tx: AsyncConnection, delivery: str) -> tuple[Delivery, Event] | None:
        """A delivery and its event."""
        query = (
            select(
                webhook_deliveries,
                webhook_events.c.team_id,
                webhook_events.c.type,
                webhook_events.c.time,
                webhook_events.c.data,
            )
            .join_from(webhook_deliveries, webhook_events, webhook_deliveries.c.event_id == webhook_events.c.id)
            .where(webhook_deliveries.c.id == delivery)
        )
        row = (await tx.execute(query)).first()
        if row is None:
            return None
        event = Event(id=row.event_id, team=row.team_id, type=row.type, time=row.time, data=row.data)
        return _delivery(row), event

    async def settle(self, tx: AsyncConnection, delivery: str, claim: str, values: dict[str, object]) -> bool:
        """Write what came of an attempt. False when the claim does not hold any more."""
        deliveries = webhook_deliveries.c
        changed = await tx.execute(
            update(webhook_deliveries)
            .where(deliveries.id == delivery, deliveries.claim == claim)
            .values(claim=None, claimed_until=None, **values)
        )
        return bool(changed.rowcount)

    async def bury(self, tx: AsyncConnection, webhook: str, error: str) -> int:
        """Give up all that is pending for a webhook. Returns how many there were."""
        deliveries = webhook_deliveries.c
        changed = await tx.execute(
            update(webhook_deliveries)
            .where(deliveries.webhook_id == webhook, deliveries.state == _PENDING)
            .values(state=DeliveryState.DEAD.value, next_at=None, claim=None, claimed_until=None, last_error=error)
        )
        return changed.rowcount

    async def page(
        self,
        tx: AsyncConnection,
        webhook: str,
        state: DeliveryState | None,
        *,
        limit: int,
        before: tuple[float, str] | None,
    ) -> list[Delivery]:
        """Deliveries of a webhook, the newest first, at most `limit`."""
        deliveries = webhook_deliveries.c
        query = (
            select(webhook_deliveries, webhook_events.c.type)
            .join_from(webhook_deliveries, webhook_events, deliveries.event_id == webhook_events.c.id)
            .where(deliveries.webhook_id == webhook)
            .order_by(deliveries.created_at.desc(), deliveries.id.desc())
            .limit(limit)
        )
        if state is not None:
            query = query.where(deliveries.state == state.value)
        if before is not None:
            at, identifier = before
            query = query.where(
                or_(deliveries.created_at < at, (deliveries.created_at == at) & (deliveries.id < identifier))
            )
        return [_delivery(row) for row in await tx.execute(query)]

    async def again(self, tx: AsyncConnection, webhook: str, delivery: str, now: float) -> Delivery | None:
        """Send a delivery again that is delivered or dead. None when there is none."""
        deliveries = webhook_deliveries.c
        await tx.execute(
            update(webhook_deliveries)
            .where(deliveries.id == delivery, deliveries.webhook_id == webhook, deliveries.state != _PENDING)
            .values(state=_PENDING, attempts=0, next_at=now, delivered_at=None)
        )
        found = await self.load(tx, delivery)
        return found[0] if found is not None and found[0].webhook == webhook else None

    async def sweep(self, tx: AsyncConnection, *, delivered_before: float, dead_before: float) -> int:
        """Forget what is old. Returns how many events and deliveries there were."""
        deliveries, events = webhook_deliveries.c, webhook_events.c
        gone = await tx.execute(
            delete(webhook_deliveries).where(
                or_(
                    (deliveries.state == DeliveryState.DELIVERED.value) & (deliveries.created_at < delivered_before),
                    (deliveries.state == DeliveryState.DEAD.value) & (deliveries.created_at < dead_before),
                )
            )
        )
        left = select(deliveries.event_id).where(deliveries.event_id == events.id).exists()
        old = await tx.execute(select(events.id).where(events.time < delivered_before, ~left).limit(_AT_ONCE))
        ids: Sequence[str] = old.scalars().all()
        if ids:
            await tx.execute(delete(webhook_events).where(events.id.in_(ids)))
        return gone.rowcount + len(ids)


def _delivery_row(webhook: str, event: str, now: float) -> dict[str, object]:
    return {
        "id": new_id("dlv"),
        "webhook_id": webhook,
        "event_id": event,
        "state": _PENDING,
        "attempts": 0,
        "next_at": now,
        "created_at": now,
    }


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook=row.webhook_id,
        event=row.event_id,
        type=row.type,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_at=row.next_at,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=row.created_at,
        delivered_at=row.delivered_at,
    )
