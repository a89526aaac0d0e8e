"""Errors of people signing in.

HomeportError
└── SignInError
    ├── SignInNotConfiguredError      503 sign_in_not_configured   no oidc_issuer is set
    ├── CallbackReplayedError         400 callback_replayed        this answer of the provider was used before
    ├── UserDisabledError             403 user_disabled            somebody locked this person out
    ├── LogoutTokenReplayedError      400 logout_token_replayed    this logout token was used before
    ├── TicketRefusedError            400 ticket_refused           a way into a page of the gateway that is not good
    ├── NothingToSignInToError        404 no_such_place            no page of the gateway that the person may see
    └── SignInSessionNotFoundError    404 no_such_sign_in_session  no session of one's own with that id
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "CallbackReplayedError",
    "LogoutTokenReplayedError",
    "NothingToSignInToError",
    "SignInError",
    "SignInNotConfiguredError",
    "SignInSessionNotFoundError",
    "TicketRefusedError",
    "UserDisabledError",
]


class SignInError(HomeportError):
    """Base of the errors of people signing in."""


class SignInNotConfiguredError(SignInError):
    """Nobody can sign in: no identity provider is set."""

    code: ClassVar[str] = "sign_in_not_configured"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "Sign-in is not set up"


class CallbackReplayedError(SignInError):
    """This answer of the identity provider was used before."""

    code: ClassVar[str] = "callback_replayed"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "This sign-in was finished before"


class UserDisabledError(SignInError):
    """Somebody locked this person out."""

    code: ClassVar[str] = "user_disabled"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "This user is locked out"


class LogoutTokenReplayedError(SignInError):
    """This logout token was used before."""

    code: ClassVar[str] = "logout_token_replayed"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "This logout token was used before"


class TicketRefusedError(SignInError):
    """A way into a page of the gateway that is not good: too old, used before, or of another browser."""

    code: ClassVar[str] = "ticket_refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Open the page again"


class NothingToSignInToError(SignInError):
    """No page of the gateway, or none of a team of the person: never told apart."""

    code: ClassVar[str] = "no_such_place"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "Nothing is served there"


class SignInSessionNotFoundError(SignInError):
    """No session of one's own has that id."""

    code: ClassVar[str] = "no_such_sign_in_session"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such session"
