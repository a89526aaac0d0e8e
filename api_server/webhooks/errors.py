"""Errors of webhooks.

HomeportError
└── WebhookError
    ├── WebhookNotFoundError      404 no_such_webhook       the team has none of that id
    ├── DeliveryNotFoundError     404 no_such_delivery      the webhook has none of that id
    ├── WebhookDisabledError      409 webhook_disabled      nothing is sent by it until it is enabled
    └── TooManyWebhooksError      409 too_many_webhooks     the team has as many as it may
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "DeliveryNotFoundError",
    "TooManyWebhooksError",
    "WebhookDisabledError",
    "WebhookError",
    "WebhookNotFoundError",
]


class WebhookError(HomeportError):
    """Base of the errors of webhooks."""


class WebhookNotFoundError(WebhookError):
    """The team has no webhook of that id."""

    code: ClassVar[str] = "no_such_webhook"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such webhook"


class DeliveryNotFoundError(WebhookError):
    """The webhook has no delivery of that id."""

    code: ClassVar[str] = "no_such_delivery"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such delivery"


class WebhookDisabledError(WebhookError):
    """Nothing is sent by a webhook that is disabled."""

    code: ClassVar[str] = "webhook_disabled"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The webhook is disabled"


class TooManyWebhooksError(WebhookError):
    """The team has as many webhooks as it may."""

    code: ClassVar[str] = "too_many_webhooks"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Too many webhooks"
