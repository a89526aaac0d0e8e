"""Names and ids, and the one place that says what they may look like.

A name (of a team, a device, a service) is a DNS label without a double hyphen, because
`{service}--{device}--{team}.{domain}` is a host name of the gateway. An id is opaque, and random where guessing it
would help anyone.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

__all__ = [
    "DeviceId",
    "ServiceName",
    "SessionId",
    "TeamId",
    "is_device_id",
    "is_name",
    "is_session_id",
    "new_device_id",
    "new_id",
    "new_session_id",
]

TeamId = NewType("TeamId", str)
DeviceId = NewType("DeviceId", str)
SessionId = NewType("SessionId", str)
ServiceName = NewType("ServiceName", str)

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_MAX_NAME = 40
"""Characters; a name longer than this leaves no room for the others in a DNS label of 63 (RFC 1035 section 2.3.4)."""

_DEVICE_ID = re.compile(r"dev-[0-9a-f]{32}", re.ASCII)
_SESSION_ID = re.compile(r"ses_[0-9a-f]{32}", re.ASCII)


def is_name(text: str) -> bool:
    """Whether `text` may name a team, a device or a service: lower-case letters, digits, single hyphens; at most 40."""
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


def new_id(prefix: str) -> str:
    """A fresh id: `prefix_` and 128 random bits in hexadecimal.

    Args:
        prefix: three letters that say what it is the id of.
    """
    return f"{prefix}_{secrets.token_hex(16)}"


def new_device_id() -> DeviceId:
    """A fresh device id: `dev-` and 128 random bits in hexadecimal. It can stand wherever the device's name can."""
    return DeviceId("dev-" + secrets.token_hex(16))


def is_device_id(text: str) -> bool:
    """Whether `text` has the shape of a device id; a device is not given such a name."""
    return _DEVICE_ID.fullmatch(text) is not None


def new_session_id() -> SessionId:
    """A fresh session id: `ses_` and 128 random bits in hexadecimal."""
    return SessionId(new_id("ses"))


def is_session_id(text: str) -> bool:
    """Whether `text` has the shape of a session id."""
    return _SESSION_ID.fullmatch(text) is not None
