"""The installation, users, their sessions, and what may happen once only."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from api_server.db.types import Time, text

revision = "0001"
down_revision = None

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "installation",
        Column("id", Integer, autoincrement=False, nullable=False),
        Column("team", text(40), nullable=False),
        Column("claimed_by", text(40), nullable=True),
        Column("claimed_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        CheckConstraint("id = 1", name=op.f("ck_installation_one_row")),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "users",
        Column("id", text(40), nullable=False),
        Column("issuer", text(255), nullable=False),
        Column("subject", text(255), nullable=False),
        Column("email", text(320), nullable=True),
        Column("email_verified", Boolean, nullable=False),
        Column("name", text(200), nullable=False),
        Column("created_at", Time, nullable=False),
        Column("last_sign_in_at", Time, nullable=False),
        Column("disabled_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        UniqueConstraint("issuer", "subject", name="uq_users_issuer_subject"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "user_sessions",
        Column("id", text(40), nullable=False),
        Column("secret_hash", text(64), nullable=False),
        Column("user_id", text(40), nullable=False),
        Column("created_at", Time, nullable=False),
        Column("last_seen_at", Time, nullable=False),
        Column("idle_seconds", Integer, nullable=False),
        Column("expires_at", Time, nullable=False),
        Column("issuer", text(255), nullable=False),
        Column("provider_sid", text(255), nullable=True),
        Column("user_agent", text(400), nullable=False),
        Column("address", text(64), nullable=False),
        Column("ended_at", Time, nullable=True),
        Column("end_reason", text(40), nullable=True),
        PrimaryKeyConstraint("id"),
        ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_sessions_user_id"),
        UniqueConstraint("secret_hash", name="uq_user_sessions_secret_hash"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_user_sessions_expires_at", "user_sessions", ["expires_at"], if_not_exists=True)
    op.create_index(
        "ix_user_sessions_issuer_provider_sid", "user_sessions", ["issuer", "provider_sid"], if_not_exists=True
    )
    op.create_index("ix_user_sessions_user_id", "user_sessions", ["user_id"], if_not_exists=True)
    op.create_table(
        "once",
        Column("kind", text(40), nullable=False),
        Column("key", text(255), nullable=False),
        Column("expires_at", Time, nullable=False),
        PrimaryKeyConstraint("kind", "key"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_once_expires_at", "once", ["expires_at"], if_not_exists=True)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("once", if_exists=True)
    op.drop_table("user_sessions", if_exists=True)
    op.drop_table("users", if_exists=True)
    op.drop_table("installation", if_exists=True)
