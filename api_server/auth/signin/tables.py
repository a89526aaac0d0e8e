"""The installation, its users, their sessions, and what may happen once only."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, UniqueConstraint

from api_server.db.metadata import table
from api_server.db.types import Time, text

__all__ = ["installation", "once", "user_sessions", "users"]

installation = table(
    "installation",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("team", text(40), nullable=False),
    Column("claimed_by", text(40)),
    Column("claimed_at", Time),
    CheckConstraint("id = 1", name="one_row"),
)
"""One row: the first team, and who became its first ADMIN."""

users = table(
    "users",
    Column("id", text(40), primary_key=True),
    Column("issuer", text(255), nullable=False),
    Column("subject", text(255), nullable=False),
    Column("email", text(320)),
    Column("email_verified", Boolean, nullable=False),
    Column("name", text(200), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("last_sign_in_at", Time, nullable=False),
    Column("disabled_at", Time),
    UniqueConstraint("issuer", "subject"),
)

user_sessions = table(
    "user_sessions",
    Column("id", text(40), primary_key=True),
    Column("secret_hash", text(64), nullable=False, unique=True),
    Column("user_id", text(40), ForeignKey("users.id"), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("last_seen_at", Time, nullable=False),
    Column("idle_seconds", Integer, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("issuer", text(255), nullable=False),
    Column("provider_sid", text(255)),
    Column("user_agent", text(400), nullable=False),
    Column("address", text(64), nullable=False),
    Column("ended_at", Time),
    Column("end_reason", text(40)),
    Index(None, "user_id"),
    Index(None, "issuer", "provider_sid"),
    Index(None, "expires_at"),
)

once = table(
    "once",
    Column("kind", text(40), primary_key=True),
    Column("key", text(255), primary_key=True),
    Column("expires_at", Time, nullable=False),
    Index(None, "expires_at"),
)
"""What may happen once: an insert that fails has been there before."""
