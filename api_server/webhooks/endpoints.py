"""`/api/webhooks`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from api_server.outbound.errors import TargetRefusedError
from api_server.webhooks.errors import (
    DeliveryNotFoundError,
    TooManyWebhooksError,
    WebhookDisabledError,
    WebhookNotFoundError,
)
from api_server.webhooks.records import Delivery, DeliveryState, Webhook
from api_server.webhooks.service import WebhookService

__all__ = ["WebhookEndpoints"]

_DAY = 24 * 3600

_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Url = Annotated[str, Meta(min_length=1, max_length=2048)]
_Events = Annotated[list[Annotated[str, Meta(max_length=80)]], Meta(min_length=1, max_length=50)]


class WebhookPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a webhook."""

    id: Annotated[str, Meta(description="Id of the webhook.")]


class DeliveryPath(WebhookPath, frozen=True, kw_only=True):
    """Names a delivery."""

    delivery: Annotated[str, Meta(description="Id of the delivery.")]


class DeliveryQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries."""

    state: Annotated[
        DeliveryState | None, Meta(description="Only those that are `pending`, `delivered` or `dead`.")
    ] = None


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook to be made."""

    team: _Name | None = None
    """May be left out by who belongs to exactly one."""
    name: _Name
    url: _Url
    """Where events are sent by POST: https, on the public Internet, unless the settings allow more."""
    events: _Events
    """Which ones: `session.online`, `session.*`, or `*` for all."""


class WebhookChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a webhook; what is left out stays."""

    name: _Name | UnsetType = UNSET
    url: _Url | UnsetType = UNSET
    events: _Events | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    """Nothing is sent by a disabled webhook; what was on its way can be sent again later."""


class SecretRotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the secret is to be replaced."""

    overlap: Annotated[int, Meta(ge=0, le=7 * _DAY)] = _DAY
    """Seconds for which messages are signed with the old secret, too."""


class WebhookWithSecret(Webhook, frozen=True, kw_only=True):
    """A webhook with what is shown only now."""

    secret: str
    """`whsec_...`, for checking signatures; it cannot be shown again."""


class WebhookPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of webhooks, in the order of their ids."""

    items: list[Webhook]
    next: str | None


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of deliveries, the newest first."""

    items: list[Delivery]
    next: str | None


class WebhookEndpoints:
    """Serves `/api/webhooks`.

    Args:
        webhooks: the rules.
    """

    def __init__(self, webhooks: WebhookService) -> None:
        self._webhooks = webhooks

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        missing = (WebhookNotFoundError, away)
        changing = (ForbiddenError, *missing)
        one = "/api/webhooks/{id}"
        deliveries = f"{one}/deliveries"
        read, own = Action.WEBHOOKS_READ, Action.WEBHOOKS_CHANGE_OWN
        return [
            Route(method="GET", path="/api/webhooks", handler=self.list_webhooks, action=read, errors=(away,)),
            Route(
                method="POST",
                path="/api/webhooks",
                handler=self.create_webhook,
                action=Action.WEBHOOKS_CREATE,
                every_team=True,
                status=201,
                errors=(TargetRefusedError, TooManyWebhooksError, away),
            ),
            Route(method="GET", path=one, handler=self.show_webhook, action=read, errors=missing),
            Route(
                method="PATCH",
                path=one,
                handler=self.change_webhook,
                action=own,
                errors=(TargetRefusedError, *changing),
            ),
            Route(method="DELETE", path=one, handler=self.delete_webhook, action=own, status=204, errors=changing),
            Route(
                method="POST",
                path=f"{one}/rotate-secret",
                handler=self.rotate_webhook_secret,
                action=own,
                errors=changing,
            ),
            Route(
                method="POST",
                path=f"{one}/test",
                handler=self.test_webhook,
                action=own,
                status=202,
                errors=(WebhookDisabledError, *changing),
            ),
            Route(method="GET", path=deliveries, handler=self.list_deliveries, action=read, errors=missing),
            Route(
                method="POST",
                path=f"{deliveries}/{{delivery}}/retry",
                handler=self.retry_delivery,
                action=own,
                status=202,
                errors=(DeliveryNotFoundError, WebhookDisabledError, *changing),
            ),
        ]

    async def list_webhooks(self, caller: Caller, query: ListQuery) -> WebhookPage:
        """List the webhooks of a team.

        Of the URL, path and query are shown to those who may change the webhook.
        """
        found = await self._webhooks.those_of(caller, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return WebhookPage(items=items, next=cursor)

    async def create_webhook(self, caller: Caller, body: NewWebhook) -> WebhookWithSecret:
        """Create a webhook.

        The answer holds the secret that signatures are checked with, this once. Events are sent as Standard Webhooks
        say, at least once each, in no order.
        """
        team = chosen_team(caller, Action.WEBHOOKS_CREATE, body.team)
        made, secret = await self._webhooks.create(caller, team, body.name, body.url, body.events)
        return WebhookWithSecret(**msgspec.structs.asdict(made), secret=secret.reveal())

    async def show_webhook(self, caller: Caller, path: WebhookPath, query: TeamQuery) -> Webhook:  # noqa: ARG002
        """Show a webhook."""
        return await self._webhooks.show(caller, path.id)

    async def change_webhook(
        self,
        caller: Caller,
        path: WebhookPath,
        query: TeamQuery,  # noqa: ARG002
        body: WebhookChange,
    ) -> Webhook:
        """Change a webhook, disable it, or enable it again."""
        given = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
        return await self._webhooks.change(caller, path.id, given)

    async def delete_webhook(self, caller: Caller, path: WebhookPath, query: TeamQuery) -> None:  # noqa: ARG002
        """Delete a webhook, and what is on its way to it."""
        await self._webhooks.delete(caller, path.id)

    async def rotate_webhook_secret(
        self,
        caller: Caller,
        path: WebhookPath,
        query: TeamQuery,  # noqa: ARG002
        body: SecretRotation,
    ) -> WebhookWithSecret:
        """Replace the secret of a webhook.

        While the two overlap, each message has two signatures, and a receiver that knows either secret accepts it.
        """
        changed, secret = await self._webhooks.rotate(caller, path.id, body.overlap)
        return WebhookWithSecret(**msgspec.structs.asdict(changed), secret=secret.reveal())

    async def test_webhook(self, caller: Caller, path: WebhookPath, query: TeamQuery) -> Delivery:  # noqa: ARG002
        """Send an event `webhook.test` to a webhook.

        Look at its deliveries for what came of it.
        """
        return await self._webhooks.test(caller, path.id)

    async def list_deliveries(self, caller: Caller, path: WebhookPath, query: DeliveryQuery) -> DeliveryPage:
        """List what was sent by a webhook, or is on its way.

        Those that were delivered are kept for a week, those that were given up for 30 days.
        """
        found = await self._webhooks.deliveries(
            caller, path.id, query.state, limit=query.limit + 1, before=_position(query.cursor)
        )
        items, cursor = cut_page(found, query.limit, lambda each: f"{round(each.created_at * 1e6)}-{each.id}")
        return DeliveryPage(items=items, next=cursor)

    async def retry_delivery(
        self,
        caller: Caller,
        path: DeliveryPath,
        query: TeamQuery,  # noqa: ARG002
    ) -> Delivery:
        """Send a delivery again, whether it was given up or delivered."""
        return await self._webhooks.again(caller, path.id, path.delivery)


def _position(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    at, _, identifier = cursor.partition("-")
    if not (at.isascii() and at.isdigit() and len(at) < 18 and identifier):
        raise ValidationFailedError("query: cursor is none of this list")
    return int(at) / 1e6, identifier
