"""API tokens."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, UniqueConstraint

from api_server.db.types import Json, Time, text

revision = "0012"
down_revision = "0011"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "api_tokens",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("name", text(100), nullable=False),
        Column("description", text(1000), nullable=False),
        Column("start", text(16), nullable=False),
        Column("token_hash", text(64), nullable=False),
        Column("previous_hash", text(64), nullable=True),
        Column("previous_expires_at", Time, nullable=True),
        Column("scopes", Json, nullable=False),
        Column("addresses", Json, nullable=False),
        Column("issuer_kind", text(16), nullable=False),
        Column("issuer_id", text(64), nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("parent_id", text(40), nullable=True),
        Column("created_at", Time, nullable=False),
        Column("issued_at", Time, nullable=False),
        Column("expires_at", Time, nullable=True),
        Column("revoked_at", Time, nullable=True),
        Column("last_used_at", Time, nullable=True),
        Column("warned", Integer, nullable=False),
        PrimaryKeyConstraint("id"),
        UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
        UniqueConstraint("previous_hash", name="uq_api_tokens_previous_hash"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_api_tokens_team_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_api_tokens_team_id_id", "api_tokens", ["team_id", "id"], if_not_exists=True)
    for column in ("issuer_id", "parent_id", "expires_at"):
        op.create_index(f"ix_api_tokens_{column}", "api_tokens", [column], if_not_exists=True)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("api_tokens", if_exists=True)
