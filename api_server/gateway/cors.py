"""Which pages of other origins may read what a route answers (the CORS protocol of the Fetch standard)."""

from __future__ import annotations

import msgspec

__all__ = ["CorsPolicy"]


class CorsPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a route says about other origins."""

    origins: tuple[str, ...]
    """`https://app.example.org`, or `*` for any."""
