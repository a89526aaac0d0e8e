"""Realms, the secrets of applications, their tokens, and what was asked of providers."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Integer, PrimaryKeyConstraint

from api_server.db.types import Json, Sealed, Time, text

revision = "0013"
down_revision = "0012"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "realms",
        Column("team_id", text(40), nullable=False),
        Column("id", text(64), nullable=False),
        Column("comment", text(1000), nullable=False),
        Column("config", Json, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("created_at", Time, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("updated_at", Time, nullable=False),
        PrimaryKeyConstraint("team_id", "id"),
        ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_realms_team_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "realm_secrets",
        Column("team_id", text(40), nullable=False),
        Column("realm", text(64), nullable=False),
        Column("key", text(64), nullable=False),
        Column("uid", text(40), nullable=False),
        Column("comment", text(1000), nullable=False),
        Column("sealed", Sealed, nullable=False),
        Column("names", Json, nullable=False),
        Column("provider", text(300), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("created_at", Time, nullable=False),
        Column("created_by_kind", text(16), nullable=False),
        Column("created_by", text(64), nullable=False),
        Column("updated_at", Time, nullable=False),
        PrimaryKeyConstraint("team_id", "realm", "key"),
        ForeignKeyConstraint(
            ["team_id", "realm"], ["realms.team_id", "realms.id"], name="fk_realm_secrets_team_id_realm"
        ),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "realm_tokens",
        Column("team_id", text(40), nullable=False),
        Column("realm", text(64), nullable=False),
        Column("key", text(64), nullable=False),
        Column("uid", text(40), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("sealed", Sealed, nullable=True),
        Column("token_type", text(64), nullable=False),
        Column("fetched_at", Time, nullable=True),
        Column("expires_at", Time, nullable=True),
        Column("due_at", Time, nullable=True),
        Column("doubtful_since", Time, nullable=True),
        Column("flushed_at", Time, nullable=True),
        Column("failures", Integer, nullable=False),
        Column("failed_code", text(64), nullable=False),
        Column("failed_detail", text(300), nullable=False),
        Column("retry_at", Time, nullable=True),
        Column("refused_at", Time, nullable=True),
        PrimaryKeyConstraint("team_id", "realm", "key"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "realm_fetches",
        Column("id", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("realm", text(64), nullable=False),
        Column("key", text(64), nullable=False),
        Column("reason", text(16), nullable=False),
        Column("started_at", Time, nullable=False),
        Column("ended_at", Time, nullable=True),
        Column("outcome", text(16), nullable=False),
        Column("status", Integer, nullable=True),
        Column("code", text(64), nullable=False),
        Column("detail", text(300), nullable=False),
        Column("process", text(80), nullable=False),
        PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index(
        "ix_realm_fetches_team_id_realm_id", "realm_fetches", ["team_id", "realm", "id"], if_not_exists=True
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("realm_fetches", "realm_tokens", "realm_secrets", "realms"):
        op.drop_table(name, if_exists=True)
