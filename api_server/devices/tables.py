"""Devices, what they dial in with, and the ways to get it."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, UniqueConstraint

from api_server.db.metadata import table
from api_server.db.types import Json, Time, text

__all__ = [
    "credentials",
    "device_authorizations",
    "device_labels",
    "devices",
    "pairing_tokens",
    "pairing_uses",
    "revocations",
]

devices = table(
    "devices",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), ForeignKey("teams.id"), nullable=False),
    Column("name", text(40), nullable=False),
    Column("public_key", text(64)),
    Column("created_at", Time, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("services", Json, nullable=False),
    Column("disabled_at", Time),
    Column("last_seen_at", Time),
    UniqueConstraint("team_id", "name"),
)
"""A deleted device's row goes; what it dialled in with stays revoked."""

device_labels = table(
    "device_labels",
    Column("device_id", text(40), ForeignKey("devices.id"), primary_key=True),
    Column("label", text(40), primary_key=True),
    Column("team_id", text(40), nullable=False),
    Index(None, "team_id", "label"),
)

credentials = table(
    "credentials",
    Column("id", text(40), primary_key=True),
    Column("device_id", text(40), nullable=False),
    Column("device_name", text(40), nullable=False),
    Column("team_id", text(40), nullable=False),
    Column("kind", text(16), nullable=False),
    Column("service", text(40)),
    Column("issued_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("issued_by_kind", text(16), nullable=False),
    Column("issued_by", text(64), nullable=False),
    Column("revoked_at", Time),
    Index(None, "device_id"),
    Index(None, "team_id", "device_name"),
    Index(None, "expires_at"),
)
"""Session tokens that were issued, not the tokens themselves. `kind` is bound, long_lived or unbound; `device_name` is
what the token says, which a renamed device shows until it has another one."""

pairing_tokens = table(
    "pairing_tokens",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), ForeignKey("teams.id"), nullable=False),
    Column("token_hash", text(64), nullable=False, unique=True),
    Column("start", text(16), nullable=False),
    Column("name", text(200)),
    Column("uses", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("revoked_at", Time),
    Column("last_used_at", Time),
    Column("reuse_count", Integer, nullable=False),
    Column("last_reuse_at", Time),
    Index(None, "team_id"),
    Index(None, "expires_at"),
)

pairing_uses = table(
    "pairing_uses",
    Column("pairing_token_id", text(40), ForeignKey("pairing_tokens.id", ondelete="CASCADE"), primary_key=True),
    Column("key_thumbprint", text(64), primary_key=True),
    Column("device_id", text(40), nullable=False),
    Column("at", Time, nullable=False),
)

device_authorizations = table(
    "device_authorizations",
    Column("id", text(40), primary_key=True),
    Column("device_code_hash", text(64), nullable=False, unique=True),
    Column("user_code_hash", text(64), nullable=False, unique=True),
    Column("name", text(40), nullable=False),
    Column("public_key", text(64), nullable=False),
    Column("address", text(64), nullable=False),
    Column("agent", text(200), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("poll_interval", Integer, nullable=False),
    Column("last_poll_at", Time),
    Column("decided_at", Time),
    Column("decision", text(16)),
    Column("decided_by", text(64)),
    Column("team_id", text(40)),
    Column("device_id", text(40)),
    Index(None, "expires_at"),
)
"""Requests of the device flow (RFC 8628 section 3.2)."""

revocations = table(
    "revocations",
    Column("kind", text(16), primary_key=True),
    Column("team_id", text(40), primary_key=True),
    Column("id", text(64), primary_key=True),
    Column("at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Index(None, "expires_at"),
)
"""What the relay must not admit. `kind` is credential or device; after `expires_at` it has expired by itself. The team
is part of the key: what another team says about an id of ours must not stand in the way of what we say.
"""
