"""Errors of devices.

HomeportError
└── DeviceError
    └── DeviceNotFoundError    404 no_such_device    what stands in the path cannot be the id of a device
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = ["DeviceError", "DeviceNotFoundError"]


class DeviceError(HomeportError):
    """Base of the errors of devices."""


class DeviceNotFoundError(DeviceError):
    """What stands in the path cannot be the id of a device."""

    code: ClassVar[str] = "no_such_device"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "No such device"
