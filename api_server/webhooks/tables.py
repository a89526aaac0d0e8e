"""Webhooks, what happened, and what is on its way."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, UniqueConstraint

from api_server.db.metadata import table
from api_server.db.types import Json, Sealed, Time, text

__all__ = ["webhook_deliveries", "webhook_events", "webhooks"]

webhooks = table(
    "webhooks",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), nullable=False),
    Column("name", text(100), nullable=False),
    Column("url", text(2048), nullable=False),
    Column("events", Json, nullable=False),
    Column("secret", Sealed, nullable=False),
    Column("secret_version", Integer, nullable=False),
    Column("old_secret", Sealed),
    Column("old_secret_until", Time),
    Column("created_at", Time, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("disabled_at", Time),
    Column("disabled_reason", text(16)),
    Column("failing_since", Time),
    Index(None, "team_id"),
)
"""`old_secret` is of the version before."""

webhook_events = table(
    "webhook_events",
    Column("id", text(64), primary_key=True),
    Column("team_id", text(40), nullable=False),
    Column("type", text(80), nullable=False),
    Column("time", Time, nullable=False),
    Column("data", Json, nullable=False),
    Index(None, "team_id"),
    Index(None, "time"),
)
"""Events that at least one webhook wanted. The key makes an event that every process sees one event."""

webhook_deliveries = table(
    "webhook_deliveries",
    Column("id", text(40), primary_key=True),
    Column("webhook_id", text(40), nullable=False),
    Column("event_id", text(64), nullable=False),
    Column("state", text(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Time),
    Column("claim", text(40)),
    Column("claimed_until", Time),
    Column("last_status", Integer),
    Column("last_error", text(64)),
    Column("created_at", Time, nullable=False),
    Column("delivered_at", Time),
    UniqueConstraint("webhook_id", "event_id"),
    Index(None, "state", "next_at"),
    Index(None, "event_id"),
)
"""`next_at` is null once there is no next attempt. Who sets `claim` sends it, until `claimed_until`."""
