"""Sends what is on its way. Every process has one; a delivery is sent by whoever claims it first.

    due ──claim──> sent ──2xx──> delivered
                     ├──410──> dead, and its webhook is disabled
                     └──anything else──> pending, later; after the last attempt dead
                            └──failing for too long──> its webhook is disabled, and the team is told

A receiver that is slow or hangs holds up nobody but itself: a webhook has few deliveries under way, and all together
have a bound. When a webhook is disabled, what was pending for it is dead, and can be sent again by hand.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import SYSTEM, AuditEntry
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.outbound.errors import OutboundError
from api_server.outbound.http import OutboundAnswer
from api_server.webhooks.metrics import WebhookMetrics
from api_server.webhooks.outbox import Outbox
from api_server.webhooks.records import Delivery, DeliveryState, Event, Webhook
from api_server.webhooks.schedule import Verdict, next_delay, verdict_of
from api_server.webhooks.sealing import WebhookSecrets
from api_server.webhooks.signing import body_of, signed_headers
from api_server.webhooks.store import SealedSecrets, WebhookStore
from common.clock import Clock
from common.crypto.errors import CredentialError
from common.logging import Logger, get_logger

__all__ = ["Courier", "Sender"]

_TIMEOUT: Final = 15.0
"""Seconds for an attempt as a whole; the specification wants 15 to 30."""

_CLAIMED: Final = 60.0
"""Seconds for which a delivery is nobody else's: longer than an attempt and what is written after it."""

_MAX_ANSWER: Final = 64 * 1024
"""Bytes; nobody looks at them."""

_POLL: Final = 2.0
"""Seconds between two looks for what has become due, or what another process has put there."""

_AT_ONCE: Final = 20
"""Deliveries under way."""

_OF_ONE: Final = 2
"""Of one webhook."""

_SWEEP: Final = 3600.0
_KEEP_DELIVERED: Final = 7 * 24 * 3600.0
_KEEP_DEAD: Final = 30 * 24 * 3600.0


class Sender(Protocol):
    """Sends a request to what a user named; `api_server.outbound.http.OutboundHttp`."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: float,
        max_bytes: int,
    ) -> OutboundAnswer:
        """Send it, and read the whole answer.

        Raises:
            OutboundError: there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of an attempt."""

    verdict: Verdict
    status: int | None
    error: str | None
    retry_after: str | None = None


class Courier:
    """The deliveries of this process.

    Args:
        database: with the outbox.
        audit: gets a line when a webhook is disabled.
        changes: tells every process that one is.
        sender: sends.
        secrets: opens what is signed with.
        metrics: what is counted.
        clock: wall time.
        disable_after: seconds for which a webhook may fail.
        timeout: seconds for an attempt.
        poll: seconds between two looks.
        rng: spreads what is tried again.
        log: says what is odd.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        sender: Sender,
        secrets: WebhookSecrets,
        metrics: WebhookMetrics,
        clock: Clock,
        disable_after: float = 3 * 24 * 3600.0,
        timeout: float = _TIMEOUT,
        poll: float = _POLL,
        rng: random.Random | None = None,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._sender = sender
        self._secrets = secrets
        self._metrics = metrics
        self._clock = clock
        self._disable_after = disable_after
        self._timeout = timeout
        self._poll = poll
        self._rng = rng if rng is not None else random.SystemRandom()
        self._log = log if log is not None else get_logger(__name__)
        self._outbox = Outbox()
        self._store = WebhookStore()
        self._busy: Counter[str] = Counter()
        """Deliveries under way, by webhook."""
        self._look = asyncio.Event()
        self._swept = float("-inf")

    def __repr__(self) -> str:
        return f"<Courier: {self._busy.total()} deliveries under way>"

    def wake(self) -> None:
        """There may be something to deliver."""
        self._look.set()

    async def run(self) -> None:
        """Deliver, until cancelled."""
        failing = False
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._look.clear()
                try:
                    await self._start_what_is_due(tasks)
                    await self._sweep()
                    failing = False
                except DatabaseError as exc:
                    if not failing:
                        self._log.warning("webhooks cannot be delivered", code=exc.code, detail=exc.detail)
                    failing = True
                try:
                    async with asyncio.timeout(self._poll):
                        await self._look.wait()
                except TimeoutError:
                    pass

    async def _start_what_is_due(self, tasks: asyncio.TaskGroup) -> None:
        while (free := _AT_ONCE - self._busy.total()) > 0:
            now = self._clock.wall()
            full = [webhook for webhook, number in self._busy.items() if number >= _OF_ONE]
            due = await self._database.read(
                lambda tx: self._outbox.due(tx, now, limit=free, without=full)  # noqa: B023  awaited here
            )
            started = False
            for delivery, webhook in due:
                if self._busy[webhook] >= _OF_ONE:
                    continue
                claim = await self._database.write(
                    lambda tx: self._outbox.claim(tx, delivery, now, _CLAIMED)  # noqa: B023  awaited here
                )
                if claim is not None:
                    started = True
                    self._busy[webhook] += 1
                    self._metrics.busy.inc()
                    tasks.create_task(self._deliver(delivery, webhook, claim))
            if not started:
                return

    async def _deliver(self, delivery: str, webhook: str, claim: str) -> None:
        try:
            await self._attempt(delivery, webhook, claim)
        except DatabaseError as exc:
            # The claim ends by itself, and it is sent again.
            self._log.warning("what came of a delivery cannot be kept", code=exc.code, delivery=delivery)
        except Exception:
            self._log.exception("a delivery failed", delivery=delivery)
        finally:
            self._busy[webhook] -= 1
            self._busy += Counter()  # without those that are zero
            self._metrics.busy.dec()
            self._look.set()

    async def _attempt(self, delivery: str, webhook: str, claim: str) -> None:
        async def load(
            tx: AsyncConnection,
        ) -> tuple[tuple[Delivery, Event] | None, tuple[Webhook, SealedSecrets] | None]:
            return await self._outbox.load(tx, delivery), await self._store.find(tx, webhook)

        found, where = await self._database.read(load)
        if found is None or where is None:
            return  # it was deleted meanwhile
        (about, event), (target, sealed) = found, where
        if target.disabled_at is not None:
            outcome = _Outcome(Verdict.FAILED, None, "webhook_disabled")
        else:
            outcome = await self._send(target, sealed, event)
        self._metrics.attempts.labels(outcome.verdict.value).inc()
        changes = await self._database.write(lambda tx: self._settle(tx, about, claim, target, outcome))
        await self._changes.announce(changes)

    async def _send(self, webhook: Webhook, sealed: SealedSecrets, event: Event) -> _Outcome:
        now = self._clock.wall()
        body = body_of(event)
        try:
            keys = self._secrets.keys(webhook, sealed, now)
            answer = await self._sender.request(
                "POST",
                webhook.url,
                headers=signed_headers(event, body, keys, now),
                content=body,
                timeout=self._timeout,
                max_bytes=_MAX_ANSWER,
            )
        except (OutboundError, CredentialError) as exc:
            return _Outcome(Verdict.FAILED, None, exc.code)
        verdict = verdict_of(answer.status)
        error = None if verdict is Verdict.DELIVERED else "answered"
        return _Outcome(verdict, answer.status, error, answer.header("retry-after"))

    async def _settle(
        self, tx: AsyncConnection, delivery: Delivery, claim: str, webhook: Webhook, outcome: _Outcome
    ) -> list[Change]:
        now, attempts = self._clock.wall(), delivery.attempts + 1
        values: dict[str, object] = {
            "attempts": attempts,
            "last_status": outcome.status,
            "last_error": outcome.error,
        }
        if outcome.verdict is Verdict.DELIVERED:
            values |= {"state": DeliveryState.DELIVERED.value, "next_at": None, "delivered_at": now}
        else:
            delay = next_delay(attempts, outcome.retry_after, self._rng)
            if delay is None or webhook.disabled_at is not None or outcome.verdict is Verdict.GONE:
                values |= {"state": DeliveryState.DEAD.value, "next_at": None}
            else:
                values |= {"next_at": now + delay}
        if not await self._outbox.settle(tx, delivery.id, claim, values) or webhook.disabled_at is not None:
            return []
        if outcome.verdict is Verdict.DELIVERED:
            if webhook.failing_since is not None:
                await self._store.change(tx, webhook.id, {"failing_since": None})
            return []
        if webhook.failing_since is None:
            await self._store.change(tx, webhook.id, {"failing_since": now})
        if outcome.verdict is Verdict.GONE:
            return await self._disable(tx, webhook, "gone", now)
        if webhook.failing_since is not None and now - webhook.failing_since >= self._disable_after:
            return await self._disable(tx, webhook, "failing", now)
        return []

    async def _disable(self, tx: AsyncConnection, webhook: Webhook, reason: str, now: float) -> list[Change]:
        await self._store.change(tx, webhook.id, {"disabled_at": now, "disabled_reason": reason})
        dead = await self._outbox.bury(tx, webhook.id, "webhook_disabled")
        self._metrics.disabled.inc()
        change = await self._changes.record(
            tx,
            Change(
                topic=Topic.WEBHOOKS,
                team=webhook.team,
                subject=webhook.id,
                event="webhook.disabled",
                data={"name": webhook.name, "reason": reason, "dead": dead},
            ),
        )
        await self._audit.record(
            tx,
            AuditEntry(
                actor=SYSTEM,
                team=webhook.team,
                action="webhook.disabled",
                target_kind="webhook",
                target_id=webhook.id,
                after={"reason": reason, "dead": dead},
            ),
        )
        return [change]

    async def _sweep(self) -> None:
        now = self._clock.wall()
        if now - self._swept >= _SWEEP:
            self._swept = now
            await self._database.write(
                lambda tx: self._outbox.sweep(tx, delivered_before=now - _KEEP_DELIVERED, dead_before=now - _KEEP_DEAD)
            )
