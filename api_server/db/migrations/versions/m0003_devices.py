"""Devices, what they dial in with, and the ways to get it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, UniqueConstraint

from api_server.db.types import Json, Time, text

revision = "0003"
down_revision = "0002"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "devices",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("name", text(40), nullable=False),
        Column("public_key", text(64), nullable=True),
        Column("created_at", Time, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("services", Json, nullable=False),
        Column("disabled_at", Time, nullable=True),
        Column("last_seen_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_devices_team_id"),
        UniqueConstraint("team_id", "name", name="uq_devices_team_id_name"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "credentials",
        Column("id", text(40), nullable=False),
        Column("device_id", text(40), nullable=False),
        Column("device_name", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("kind", text(16), nullable=False),
        Column("service", text(40), nullable=True),
        Column("issued_at", Time, nullable=False),
        Column("expires_at", Time, nullable=False),
        Column("issued_by_kind", text(16), nullable=False),
        Column("issued_by", text(64), nullable=False),
        Column("revoked_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_credentials_device_id", "credentials", ["device_id"], if_not_exists=True)
    op.create_index("ix_credentials_team_id_device_name", "credentials", ["team_id", "device_name"], if_not_exists=True)
    op.create_index("ix_credentials_expires_at", "credentials", ["expires_at"], if_not_exists=True)
    op.create_table(
        "pairing_tokens",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("token_hash", text(64), nullable=False),
        Column("start", text(16), nullable=False),
        Column("name", text(200), nullable=True),
        Column("uses", Integer, nullable=False),
        Column("used", Integer, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("created_at", Time, nullable=False),
        Column("expires_at", Time, nullable=False),
        Column("revoked_at", Time, nullable=True),
        Column("last_used_at", Time, nullable=True),
        Column("reuse_count", Integer, nullable=False),
        Column("last_reuse_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_pairing_tokens_team_id"),
        UniqueConstraint("token_hash", name="uq_pairing_tokens_token_hash"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_pairing_tokens_expires_at", "pairing_tokens", ["expires_at"], if_not_exists=True)
    op.create_index("ix_pairing_tokens_team_id", "pairing_tokens", ["team_id"], if_not_exists=True)
    op.create_table(
        "pairing_uses",
        Column("pairing_token_id", text(40), nullable=False),
        Column("key_thumbprint", text(64), nullable=False),
        Column("device_id", text(40), nullable=False),
        Column("at", Time, nullable=False),
        PrimaryKeyConstraint("pairing_token_id", "key_thumbprint"),
        ForeignKeyConstraint(
            ["pairing_token_id"], ["pairing_tokens.id"], name="fk_pairing_uses_pairing_token_id", ondelete="CASCADE"
        ),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "device_authorizations",
        Column("id", text(40), nullable=False),
        Column("device_code_hash", text(64), nullable=False),
        Column("user_code_hash", text(64), nullable=False),
        Column("name", text(40), nullable=False),
        Column("public_key", text(64), nullable=False),
        Column("address", text(64), nullable=False),
        Column("agent", text(200), nullable=False),
        Column("created_at", Time, nullable=False),
        Column("expires_at", Time, nullable=False),
        Column("poll_interval", Integer, nullable=False),
        Column("last_poll_at", Time, nullable=True),
        Column("decided_at", Time, nullable=True),
        Column("decision", text(16), nullable=True),
        Column("decided_by", text(64), nullable=True),
        Column("team_id", text(40), nullable=True),
        Column("device_id", text(40), nullable=True),
        PrimaryKeyConstraint("id"),
        UniqueConstraint("device_code_hash", name="uq_device_authorizations_device_code_hash"),
        UniqueConstraint("user_code_hash", name="uq_device_authorizations_user_code_hash"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_device_authorizations_expires_at", "device_authorizations", ["expires_at"], if_not_exists=True)
    op.create_table(
        "revocations",
        Column("kind", text(16), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("id", text(64), nullable=False),
        Column("at", Time, nullable=False),
        Column("expires_at", Time, nullable=False),
        PrimaryKeyConstraint("kind", "team_id", "id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_revocations_expires_at", "revocations", ["expires_at"], if_not_exists=True)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("revocations", if_exists=True)
    op.drop_table("device_authorizations", if_exists=True)
    op.drop_table("pairing_uses", if_exists=True)
    op.drop_table("pairing_tokens", if_exists=True)
    op.drop_table("credentials", if_exists=True)
    op.drop_table("devices", if_exists=True)
