"""Signatures and messages as Standard Webhooks have them (specification 1.0.0).

    webhook-id           of the event, the same each time that it is sent
    webhook-timestamp    of the attempt, seconds since the Unix epoch
    webhook-signature    v1,base64(HMAC-SHA256(secret, "id.timestamp.body")), two of them while a secret is replaced

A secret is shown as `whsec_` and the base64 of its bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from api_server.webhooks.records import Event
from common.secret import Secret

__all__ = ["body_of", "new_secret", "shown", "signed_headers"]

_BYTES: Final = 32
"""The specification wants 24 to 64."""


def new_secret() -> bytes:
    """A fresh secret."""
    return secrets.token_bytes(_BYTES)


def shown(secret: bytes) -> Secret:
    """A secret as it is handed out."""
    return Secret("whsec_" + base64.b64encode(secret).decode())


def body_of(event: Event) -> bytes:
    """What is sent: the same bytes each time."""
    return msgspec.json.encode(
        {
            "type": event.type,
            "timestamp": datetime.fromtimestamp(event.time, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "id": event.id,
            "team": event.team,
            "data": event.data,
        },
        order="deterministic",
    )


def signed_headers(event: Event, body: bytes, keys: Sequence[bytes], now: float) -> dict[str, str]:
    """The header fields that sign a message.

    Args:
        event: that it tells of.
        body: of the message.
        keys: secrets that hold, the newest first.
        now: seconds since the Unix epoch.
    """
    timestamp = str(int(now))
    signed = b"%b.%b.%b" % (event.id.encode(), timestamp.encode(), body)
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": event.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
        "content-type": "application/json",
    }
