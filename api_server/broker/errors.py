"""Errors of the broker.

HomeportError
└── BrokerError
    ├── RealmNotFoundError          404 no_such_realm             no realm of that id in the team
    ├── RealmExistsError            409 realm_exists              the team has a realm of that id
    ├── RealmInvalidError           422 realm_invalid             the realm says something that cannot be done
    ├── RealmSecretNotFoundError    404 no_such_realm_secret      the realm has no secret of that key
    ├── RealmSecretExistsError      409 realm_secret_exists       the realm has a secret of that key
    ├── RealmSecretInvalidError     422 realm_secret_invalid      it lacks a field that the realm refers to
    ├── RealmSecretUnboundError     409 realm_secret_unbound      saved for another provider than the realm names now
    ├── ProviderFailedError         502 provider_failed           the provider gave no token; asked again later
    ├── ProviderRefusedError        502 provider_refused          the provider does not know the secret; not asked again
    ├── ProviderPausedError         503 provider_paused           too many calls, or too many failures, at that provider
    └── FlushTooSoonError           429 flush_too_soon            the interval between two flushes is not over

Details name realm and key, and what the provider says of itself, without any value of the secret.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "BrokerError",
    "FlushTooSoonError",
    "ProviderFailedError",
    "ProviderPausedError",
    "ProviderRefusedError",
    "RealmExistsError",
    "RealmInvalidError",
    "RealmNotFoundError",
    "RealmSecretExistsError",
    "RealmSecretInvalidError",
    "RealmSecretNotFoundError",
    "RealmSecretUnboundError",
]


class BrokerError(HomeportError):
    """Base of the errors of the broker."""


class RealmNotFoundError(BrokerError):
    """The team has no realm of that id."""

    code: ClassVar[str] = "no_such_realm"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such realm"


class RealmExistsError(BrokerError):
    """The team has a realm of that id already."""

    code: ClassVar[str] = "realm_exists"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The realm is there already"


class RealmInvalidError(BrokerError):
    """The realm says something that cannot be done; the detail says what."""

    code: ClassVar[str] = "realm_invalid"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The realm cannot be used"


class RealmSecretNotFoundError(BrokerError):
    """The realm has no secret of that key."""

    code: ClassVar[str] = "no_such_realm_secret"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such secret of the realm"


class RealmSecretExistsError(BrokerError):
    """The realm has a secret of that key already; change it instead."""

    code: ClassVar[str] = "realm_secret_exists"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The secret is there already"


class RealmSecretInvalidError(BrokerError):
    """The secret lacks a field that the realm refers to, or has one that the realm does not know."""

    code: ClassVar[str] = "realm_secret_invalid"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The secret does not fit the realm"


class RealmSecretUnboundError(BrokerError):
    """The secret was saved for another provider than the realm names now. Save it again to have it sent there."""

    code: ClassVar[str] = "realm_secret_unbound"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The secret is for another provider"


class ProviderFailedError(BrokerError):
    """The provider gave no token. That is remembered, and it is asked again after `Retry-After`."""

    code: ClassVar[str] = "provider_failed"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The provider gave no token"


class ProviderRefusedError(BrokerError):
    """The provider says that the secret does not hold. It is not asked again until secret or realm is changed."""

    code: ClassVar[str] = "provider_refused"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The provider refuses the secret"


class ProviderPausedError(BrokerError):
    """The provider is not called now: it has failed too often, or there are too many calls under way."""

    code: ClassVar[str] = "provider_paused"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The provider is not called now"


class FlushTooSoonError(BrokerError):
    """The token was flushed a moment ago; `Retry-After` says when it may be flushed again."""

    code: ClassVar[str] = "flush_too_soon"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Flushed a moment ago"
