"""Webhooks, what happened, and what is on its way."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, PrimaryKeyConstraint, UniqueConstraint

from api_server.db.types import Json, Sealed, Time, text

revision = "0014"
down_revision = "0013"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "webhooks",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("name", text(100), nullable=False),
        Column("url", text(2048), nullable=False),
        Column("events", Json, nullable=False),
        Column("secret", Sealed, nullable=False),
        Column("secret_version", Integer, nullable=False),
        Column("old_secret", Sealed, nullable=True),
        Column("old_secret_until", Time, nullable=True),
        Column("created_at", Time, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("disabled_at", Time, nullable=True),
        Column("disabled_reason", text(16), nullable=True),
        Column("failing_since", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_webhooks_team_id", "webhooks", ["team_id"], if_not_exists=True)
    op.create_table(
        "webhook_events",
        Column("id", text(64), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("type", text(80), nullable=False),
        Column("time", Time, nullable=False),
        Column("data", Json, nullable=False),
        PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_webhook_events_team_id", "webhook_events", ["team_id"], if_not_exists=True)
    op.create_index("ix_webhook_events_time", "webhook_events", ["time"], if_not_exists=True)
    op.create_table(
        "webhook_deliveries",
        Column("id", text(40), nullable=False),
        Column("webhook_id", text(40), nullable=False),
        Column("event_id", text(64), nullable=False),
        Column("state", text(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("next_at", Time, nullable=True),
        Column("claim", text(40), nullable=True),
        Column("claimed_until", Time, nullable=True),
        Column("last_status", Integer, nullable=True),
        Column("last_error", text(64), nullable=True),
        Column("created_at", Time, nullable=False),
        Column("delivered_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        UniqueConstraint("webhook_id", "event_id", name="uq_webhook_deliveries_webhook_id_event_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index(
        "ix_webhook_deliveries_state_next_at", "webhook_deliveries", ["state", "next_at"], if_not_exists=True
    )
    op.create_index("ix_webhook_deliveries_event_id", "webhook_deliveries", ["event_id"], if_not_exists=True)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("webhook_deliveries", if_exists=True)
    op.drop_table("webhook_events", if_exists=True)
    op.drop_table("webhooks", if_exists=True)
