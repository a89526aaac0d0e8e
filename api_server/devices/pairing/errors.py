"""Errors of pairing.

HomeportError
└── DeviceError
    └── PairingError
        ├── PairingTokenInvalidError     401 invalid_pairing_token    no pairing token of ours
        ├── PairingTokenUsedError        409 pairing_token_used       it was good for so many devices, and they came
        ├── PairingTokenExpiredError     410 pairing_token_expired    too late, or withdrawn
        ├── PairingTokenNotFoundError    404 no_such_pairing_token    the team has none of that id
        ├── DeviceNameNeededError        422 device_name_needed       neither device nor token say what it is called
        ├── UserCodeNotFoundError        404 no_such_user_code        no device waits under that code
        ├── TooManyCodesError            429 too_many_codes           too many wrong codes, or devices that wait
        └── DeviceFlowError              how a device's question is answered (RFC 8628 section 3.5)
            ├── AuthorizationPendingError  400 authorization_pending  nobody has decided yet: ask again
            ├── SlowDownError              400 slow_down              the device asks too often
            ├── AccessDeniedError          400 access_denied          somebody has said no
            ├── ExpiredCodeError           400 expired_token          nobody has decided in time: begin anew
            └── DeviceCodeInvalidError     400 invalid_grant          no device code of ours, or it has been used
"""

from __future__ import annotations

from typing import ClassVar

from api_server.devices.errors import DeviceError

__all__ = [
    "AccessDeniedError",
    "AuthorizationPendingError",
    "DeviceCodeInvalidError",
    "DeviceFlowError",
    "DeviceNameNeededError",
    "ExpiredCodeError",
    "PairingError",
    "PairingTokenExpiredError",
    "PairingTokenInvalidError",
    "PairingTokenNotFoundError",
    "PairingTokenUsedError",
    "SlowDownError",
    "TooManyCodesError",
    "UserCodeNotFoundError",
]


class PairingError(DeviceError):
    """Base of the errors of pairing."""


class PairingTokenInvalidError(PairingError):
    """No pairing token of ours: cut off, mistyped, or of another installation."""

    code: ClassVar[str] = "invalid_pairing_token"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The pairing token does not hold"


class PairingTokenUsedError(PairingError):
    """The pairing token was good for so many devices, and they have come. If none of them is yours, somebody else has
    had the token: its owner sees that it was shown again.
    """

    code: ClassVar[str] = "pairing_token_used"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The pairing token is used up"


class PairingTokenExpiredError(PairingError):
    """It is too late, or the pairing token was withdrawn."""

    code: ClassVar[str] = "pairing_token_expired"
    status: ClassVar[int] = 410
    title: ClassVar[str] = "The pairing token holds no longer"


class PairingTokenNotFoundError(PairingError):
    """The team has no pairing token of that id."""

    code: ClassVar[str] = "no_such_pairing_token"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such pairing token"


class DeviceNameNeededError(PairingError):
    """Neither the device nor the pairing token says what the device is called. The token is not spent."""

    code: ClassVar[str] = "device_name_needed"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The device needs a name"


class UserCodeNotFoundError(PairingError):
    """No device waits under that code: mistyped, too late, or decided already."""

    code: ClassVar[str] = "no_such_user_code"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No device waits under that code"


class TooManyCodesError(PairingError):
    """Too many wrong codes from one person or address, or too many devices that wait for approval."""

    code: ClassVar[str] = "too_many_codes"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "Too many codes"


class DeviceFlowError(PairingError):
    """Base of the answers to a device that asks how its request stands (RFC 8628 section 3.5)."""

    status: ClassVar[int] = 400


class AuthorizationPendingError(DeviceFlowError):
    """Nobody has decided yet. Ask again after the interval."""

    code: ClassVar[str] = "authorization_pending"
    title: ClassVar[str] = "Nobody has decided yet"


class SlowDownError(DeviceFlowError):
    """The device asks too often. From now on the interval is five seconds longer."""

    code: ClassVar[str] = "slow_down"
    title: ClassVar[str] = "Ask less often"


class AccessDeniedError(DeviceFlowError):
    """Somebody has said no."""

    code: ClassVar[str] = "access_denied"
    title: ClassVar[str] = "The request was denied"


class ExpiredCodeError(DeviceFlowError):
    """Nobody has decided in time. Begin anew."""

    code: ClassVar[str] = "expired_token"
    title: ClassVar[str] = "The code has expired"


class DeviceCodeInvalidError(DeviceFlowError):
    """No device code of ours, or one that has been exchanged."""

    code: ClassVar[str] = "invalid_grant"
    title: ClassVar[str] = "The device code does not hold"
