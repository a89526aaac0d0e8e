"""Errors of provider tokens.

HomeportError
└── ProviderTokenError
    ├── ProviderNotFoundError         404 no_such_provider         no provider of that name is set up
    ├── ConnectionNotFoundError       404 not_connected            the user has not connected the provider in the team
    ├── OfflineTokenNotFoundError     404 no_offline_token         no offline token of the user is kept
    ├── InvalidConnectCallbackError   400 invalid_connect_callback not an answer to a connection that this browser began
    ├── ConnectCallbackReplayedError  400 connect_callback_replayed the answer was used before
    ├── ConsentRefusedError           403 consent_refused          the person, or the provider, says no
    ├── ConnectCodeRefusedError       400 connect_code_refused     the provider does not take the code
    ├── NeedsReconnectError           409 needs_reconnect          the grant is dead: the person has to connect anew
    ├── ConnectionChangedError        409 connection_changed       somebody changed it at the same time
    ├── ProviderAwayError             503 provider_unavailable     no answer, or none that can be used; with Retry-After
    ├── ProviderRefusesClientError    502 provider_refuses_client  the provider does not take Homeport as its client
    ├── GrantRefusedError             409 grant_refused            invalid_grant: the provider does not take the grant
    ├── NobodyBehindTokenError        403 nobody_behind_token      the program acts for no person
    └── TooManyHandOutsError          429 too_many_hand_outs       too many access tokens were asked for

A detail names providers and OAuth error codes, never a token, a code or a secret, nor a provider's free text.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "ConnectCallbackReplayedError",
    "ConnectCodeRefusedError",
    "ConnectionChangedError",
    "ConnectionNotFoundError",
    "ConsentRefusedError",
    "GrantRefusedError",
    "InvalidConnectCallbackError",
    "NeedsReconnectError",
    "NobodyBehindTokenError",
    "OfflineTokenNotFoundError",
    "ProviderAwayError",
    "ProviderNotFoundError",
    "ProviderRefusesClientError",
    "ProviderTokenError",
    "TooManyHandOutsError",
]


class ProviderTokenError(HomeportError):
    """Base of the errors of provider tokens."""


class ProviderNotFoundError(ProviderTokenError):
    """No provider of that name is set up; `/api/providers` lists those that are."""

    code: ClassVar[str] = "no_such_provider"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such provider"


class ConnectionNotFoundError(ProviderTokenError):
    """The user has not connected the provider in that team."""

    code: ClassVar[str] = "not_connected"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "The provider is not connected"


class OfflineTokenNotFoundError(ProviderTokenError):
    """No offline token of the user is kept: `oidc_offline_access` is off, or they have not signed in since."""

    code: ClassVar[str] = "no_offline_token"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No offline token is kept"


class InvalidConnectCallbackError(ProviderTokenError):
    """Not an answer to a connection that this person began in this browser in the last minutes."""

    code: ClassVar[str] = "invalid_connect_callback"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Not an answer to a connection of this browser"


class ConnectCallbackReplayedError(ProviderTokenError):
    """The provider's answer was used before; it counts once."""

    code: ClassVar[str] = "connect_callback_replayed"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The connection is made already"


class ConsentRefusedError(ProviderTokenError):
    """The provider says no: the person cancelled, or may not."""

    code: ClassVar[str] = "consent_refused"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The provider refused"


class ConnectCodeRefusedError(ProviderTokenError):
    """The provider does not take the authorization code: used, too old, or not ours."""

    code: ClassVar[str] = "connect_code_refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The provider does not take the code"


class NeedsReconnectError(ProviderTokenError):
    """What the provider granted has ended: the person has to connect it anew."""

    code: ClassVar[str] = "needs_reconnect"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The provider has to be connected anew"


class ConnectionChangedError(ProviderTokenError):
    """Somebody changed the connection at the same time; look again."""

    code: ClassVar[str] = "connection_changed"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The connection was changed meanwhile"


class ProviderAwayError(ProviderTokenError):
    """The provider does not answer, or not in a way that can be used. What is kept of it stays.

    Args:
        detail: what happened.
        retry_after: seconds.
        undone: whether it is certain that the provider has done nothing of what it was asked for.
    """

    code: ClassVar[str] = "provider_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "The provider does not answer"

    def __init__(self, detail: str = "", *, retry_after: float | None = 5.0, undone: bool = False) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.undone = undone


class ProviderRefusesClientError(ProviderTokenError):
    """The provider does not take Homeport as its client, or not this request of it: look at the settings."""

    code: ClassVar[str] = "provider_refuses_client"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "The provider refuses Homeport"


class GrantRefusedError(ProviderTokenError):
    """`invalid_grant` (RFC 6749 section 5.2): the provider does not take the code or the refresh token.

    Args:
        error: the provider's word for it.
    """

    code: ClassVar[str] = "grant_refused"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The provider does not take the grant"

    def __init__(self, error: str = "invalid_grant") -> None:
        super().__init__(f"the provider says {error}")
        self.error = error


class NobodyBehindTokenError(ProviderTokenError):
    """The program acts for no person, and provider tokens belong to people."""

    code: ClassVar[str] = "nobody_behind_token"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The program acts for no person"


class TooManyHandOutsError(ProviderTokenError):
    """Too many access tokens were asked for in a short time; keep them until they end."""

    code: ClassVar[str] = "too_many_hand_outs"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Too many access tokens were asked for"
