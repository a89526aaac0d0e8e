"""Errors of devices.

HomeportError
└── DeviceError
    ├── DeviceNotFoundError       404 no_such_device        the team has no device of that id or name
    ├── DeviceNameTakenError      409 device_name_taken     the team has a device of that name
    ├── DeviceDisabledError       403 device_disabled       it gets no session token while it is disabled
    ├── DeviceKeyUnknownError     401 device_key_unknown    no device has that id and a key: pair it anew
    └── CredentialNotFoundError   404 no_such_credential    the device has no session token of that id
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "CredentialNotFoundError",
    "DeviceDisabledError",
    "DeviceError",
    "DeviceKeyUnknownError",
    "DeviceNameTakenError",
    "DeviceNotFoundError",
]


class DeviceError(HomeportError):
    """Base of the errors of devices."""


class DeviceNotFoundError(DeviceError):
    """The team has no device of that id or name."""

    code: ClassVar[str] = "no_such_device"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such device"


class DeviceNameTakenError(DeviceError):
    """The team has a device of that name."""

    code: ClassVar[str] = "device_name_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The device's name is taken"


class DeviceDisabledError(DeviceError):
    """A device that is disabled gets no session token, and those it had are revoked."""

    code: ClassVar[str] = "device_disabled"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The device is disabled"


class DeviceKeyUnknownError(DeviceError):
    """No device has that id and a key: it was deleted, its key was revoked, or it never had one. Pair it anew."""

    code: ClassVar[str] = "device_key_unknown"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The device's key is not known"


class CredentialNotFoundError(DeviceError):
    """The device has no session token of that id."""

    code: ClassVar[str] = "no_such_credential"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such session token"
