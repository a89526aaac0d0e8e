"""Where secrets may go: the destination of a target, in one spelling, which a secret's must equal (G2).

https://api.example.org        an origin: scheme, host and port, whatever the path
device:dev-0123.../web         a service of a device, by the device's id: another that takes its name gets nothing
label:cameras/web              a service of the devices that have a label
"""

from __future__ import annotations

from typing import Final

from api_server.http.errors import ValidationFailedError
from common.ids import is_name

__all__ = ["device_destination", "label_destination", "split_destination", "url_destination"]

_DEVICE: Final = "device:"
_LABEL: Final = "label:"


def url_destination(scheme: str, authority: str) -> str:
    """Of a URL."""
    return f"{scheme}://{authority}"


def device_destination(device: str, service: str) -> str:
    """Of a service of a device, by its id."""
    return f"{_DEVICE}{device}/{service}"


def label_destination(label: str, service: str) -> str:
    """Of a service of the devices that have a label."""
    return f"{_LABEL}{label}/{service}"


def split_destination(text: str) -> tuple[str, str, str] | None:
    """Kind (`device` or `label`), name and service that a destination says; None when it is a URL.

    Raises:
        ValidationFailedError: it is neither.
    """
    for start in (_DEVICE, _LABEL):
        if text.startswith(start):
            name, _, service = text.removeprefix(start).partition("/")
            if not is_name(name) or not is_name(service):
                raise ValidationFailedError(f"body: destination is {start}NAME/SERVICE")
            return start.removesuffix(":"), name, service
    return None
