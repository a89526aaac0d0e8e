"""What may be done with webhooks.

The URL is looked at when it is saved, and the address that it leads to each time that something is sent (G3). The
secret is shown when it is made and never again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action, Identity
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.webhooks.errors import (
    DeliveryNotFoundError,
    TooManyWebhooksError,
    WebhookDisabledError,
    WebhookNotFoundError,
)
from api_server.webhooks.outbox import Outbox
from api_server.webhooks.records import Delivery, DeliveryState, Event, Webhook, is_pattern
from api_server.webhooks.sealing import WebhookSecrets
from api_server.webhooks.signing import new_secret, shown
from api_server.webhooks.store import WebhookStore
from common.clock import Clock
from common.ids import TeamId, new_id
from common.secret import Secret

__all__ = ["UrlPolicy", "WebhookService"]

_MOST: Final = 50
"""Webhooks of a team."""


class UrlPolicy(Protocol):
    """What may be named as a target; `api_server.outbound.policy.TargetPolicy`."""

    def check_url(self, url: str) -> object:
        """Look at a URL.

        Raises:
            TargetRefusedError: it can be no target.
        """
        ...


class WebhookService:
    """The rules of webhooks.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: tells every process.
        secrets: seals.
        policy: of targets.
        clock: wall time.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        secrets: WebhookSecrets,
        policy: UrlPolicy,
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._secrets = secrets
        self._policy = policy
        self._clock = clock
        self._store = WebhookStore()
        self._outbox = Outbox()

    async def those_of(self, caller: Caller, *, limit: int, after: str | None) -> list[Webhook]:
        """Webhooks of a team, as the caller may see them."""
        team = caller.team
        found = await self._database.read(lambda tx: self._store.those_of(tx, team, limit=limit, after=after))
        return [_seen_by(caller.identity, each) for each in found]

    async def show(self, caller: Caller, webhook: str) -> Webhook:
        """One webhook, as the caller may see it.

        Raises:
            WebhookNotFoundError: the team has none of that id.
        """
        return _seen_by(caller.identity, await self._database.read(lambda tx: self._get(tx, caller.team, webhook)))

    async def create(
        self, caller: Caller, team: TeamId, name: str, url: str, events: Sequence[str]
    ) -> tuple[Webhook, Secret]:
        """Make a webhook. Its secret is shown this once.

        Raises:
            TargetRefusedError, TooManyWebhooksError, ValidationFailedError: see there.
        """
        self._check(url, events)
        identity, secret = caller.identity, new_secret()
        made = Webhook(
            id=new_id("whk"),
            team=team,
            name=name,
            url=url,
            events=list(events),
            created_at=self._clock.wall(),
            created_by=f"{identity.kind}:{identity.id}",
            disabled_at=None,
            disabled_reason=None,
            failing_since=None,
            old_secret_until=None,
        )

        async def work(tx: AsyncConnection) -> Change:
            if await self._store.count(tx, team) >= _MOST:
                raise TooManyWebhooksError(f"the team has {_MOST} webhooks already")
            await self._store.add(tx, made, self._secrets.seal(secret, team, made.id, 1))
            return await self._record(tx, caller, made, "webhook.created", after=_told(made))

        await self._changes.announce([await self._database.write(work)])
        return made, shown(secret)

    async def change(self, caller: Caller, webhook: str, given: Mapping[str, Any]) -> Webhook:
        """Change name, url, events, or whether it is disabled.

        Raises:
            ForbiddenError, TargetRefusedError, ValidationFailedError, WebhookNotFoundError: see there.
        """
        self._check(given.get("url"), given.get("events"))
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Webhook, Change]:
            before = await self._changeable(tx, caller, webhook)
            values: dict[str, Any] = {name: given[name] for name in ("name", "url", "events") if name in given}
            if "disabled" in given and given["disabled"] != (before.disabled_at is not None):
                disabled = given["disabled"]
                values |= {
                    "disabled_at": now if disabled else None,
                    "disabled_reason": "by_hand" if disabled else None,
                    "failing_since": None,
                }
                if disabled:
                    await self._outbox.bury(tx, before.id, "webhook_disabled")
            if values:
                await self._store.change(tx, before.id, values)
            after = await self._get(tx, before.team, before.id)
            return after, await self._record(
                tx, caller, after, "webhook.changed", before=_told(before), after=_told(after)
            )

        changed, change = await self._database.write(work)
        await self._changes.announce([change])
        return changed

    async def delete(self, caller: Caller, webhook: str) -> None:
        """Delete a webhook, and what is on its way to it.

        Raises:
            ForbiddenError, WebhookNotFoundError: see there.
        """

        async def work(tx: AsyncConnection) -> Change:
            found = await self._changeable(tx, caller, webhook)
            await self._store.remove(tx, found.id)
            return await self._record(tx, caller, found, "webhook.deleted", before=_told(found))

        await self._changes.announce([await self._database.write(work)])

    async def rotate(self, caller: Caller, webhook: str, overlap: float) -> tuple[Webhook, Secret]:
        """Replace the secret. For `overlap` seconds messages are signed with the old one, too.

        Raises:
            ForbiddenError, WebhookNotFoundError: see there.
        """
        secret, now = new_secret(), self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Webhook, Change]:
            found = await self._changeable(tx, caller, webhook)
            there = await self._store.find(tx, found.id)
            assert there is not None
            sealed = there[1]
            version = sealed.version + 1
            values = {
                "secret": self._secrets.seal(secret, found.team, found.id, version),
                "secret_version": version,
                "old_secret": sealed.secret if overlap else None,
                "old_secret_until": now + overlap if overlap else None,
            }
            await self._store.change(tx, found.id, values)
            after = await self._get(tx, found.team, found.id)
            return after, await self._record(
                tx, caller, after, "webhook.secret_rotated", after={"version": version, "overlap": overlap}
            )

        changed, change = await self._database.write(work)
        await self._changes.announce([change])
        return changed, shown(secret)

    async def test(self, caller: Caller, webhook: str) -> Delivery:
        """Send a `webhook.test` event to one webhook.

        Raises:
            ForbiddenError, WebhookDisabledError, WebhookNotFoundError: see there.
        """

        async def work(tx: AsyncConnection) -> Delivery:
            found = await self._changeable(tx, caller, webhook)
            _check_enabled(found)
            event = Event(
                id=new_id("evt"),
                team=found.team,
                type="webhook.test",
                time=self._clock.wall(),
                data={"webhook": found.id, "name": found.name},
            )
            made = await self._outbox.load(tx, await self._outbox.add_for(tx, event, found.id))
            assert made is not None
            entry = entry_of(caller, found.team, "webhook.tested", ("webhook", found.id), after={"event": event.id})
            await self._audit.record(tx, entry)
            return made[0]

        return await self._database.write(work)

    async def deliveries(
        self,
        caller: Caller,
        webhook: str,
        state: DeliveryState | None,
        *,
        limit: int,
        before: tuple[float, str] | None,
    ) -> list[Delivery]:
        """Deliveries of a webhook, the newest first.

        Raises:
            WebhookNotFoundError: the team has none of that id.
        """

        async def work(tx: AsyncConnection) -> list[Delivery]:
            found = await self._get(tx, caller.team, webhook)
            return await self._outbox.page(tx, found.id, state, limit=limit, before=before)

        return await self._database.read(work)

    async def again(self, caller: Caller, webhook: str, delivery: str) -> Delivery:
        """Send a delivery again.

        Raises:
            DeliveryNotFoundError, ForbiddenError, WebhookDisabledError, WebhookNotFoundError: see there.
        """

        async def work(tx: AsyncConnection) -> Delivery:
            found = await self._changeable(tx, caller, webhook)
            _check_enabled(found)
            sent = await self._outbox.again(tx, found.id, delivery, self._clock.wall())
            if sent is None:
                raise DeliveryNotFoundError("the webhook has no delivery of that id")
            entry = entry_of(caller, found.team, "webhook.retried", ("webhook", found.id), after={"delivery": delivery})
            await self._audit.record(tx, entry)
            return sent

        return await self._database.write(work)

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:  # noqa: ARG002
        """Implements `api_server.teams.interfaces.TeamEnder`."""
        ended = await self._store.remove_team(tx, team)
        if not ended:
            return []
        return [await self._changes.record(tx, Change(topic=Topic.WEBHOOKS, team=None, subject=""))]

    def _check(self, url: str | None, events: Sequence[str] | None) -> None:
        if url is not None:
            self._policy.check_url(url)
        if events is not None and not all(map(is_pattern, events)):
            raise ValidationFailedError("body: events are such as session.online, session.* or *")

    async def _get(self, tx: AsyncConnection, team: TeamId, webhook: str, *, lock: bool = False) -> Webhook:
        found = await self._store.get(tx, team, webhook, lock=lock)
        if found is None:
            raise WebhookNotFoundError("the team has no webhook of that id")
        return found

    async def _changeable(self, tx: AsyncConnection, caller: Caller, webhook: str) -> Webhook:
        """A webhook of the caller's team, held against other writers, if the caller may change it."""
        found = await self._get(tx, caller.team, webhook, lock=True)
        if not _may_change(caller.identity, found):
            raise ForbiddenError(f"{caller.identity.name!r} may change own webhooks only")
        return found

    async def _record(
        self,
        tx: AsyncConnection,
        caller: Caller,
        webhook: Webhook,
        action: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> Change:
        change = await self._changes.record(tx, Change(topic=Topic.WEBHOOKS, team=webhook.team, subject=webhook.id))
        entry = entry_of(caller, webhook.team, action, ("webhook", webhook.id), before=before, after=after)
        await self._audit.record(tx, entry)
        return change


def _may_change(identity: Identity, webhook: Webhook) -> bool:
    return identity.may_change(Action.WEBHOOKS_CHANGE, Action.WEBHOOKS_CHANGE_OWN, webhook.team, webhook.creator)


def _check_enabled(webhook: Webhook) -> None:
    if webhook.disabled_at is not None:
        raise WebhookDisabledError("enable the webhook first")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/..."


def _seen_by(identity: Identity, webhook: Webhook) -> Webhook:
    """Without what can be a secret, for those who may not change it."""
    return webhook if _may_change(identity, webhook) else msgspec.structs.replace(webhook, url=_origin(webhook.url))


def _told(webhook: Webhook) -> dict[str, Any]:
    """For the audit log, which more people read."""
    return {
        "name": webhook.name,
        "url": _origin(webhook.url),
        "events": list(webhook.events),
        "disabled": webhook.disabled_at is not None,
    }
