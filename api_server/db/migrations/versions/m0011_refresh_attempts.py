"""Refreshes of provider tokens that have begun and are not kept yet."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, PrimaryKeyConstraint

from api_server.db.types import Sealed, Time, text

revision = "0011"
down_revision = "0010"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "refresh_attempts",
        Column("record_id", text(128), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("attempt_id", text(40), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("doubtful", Boolean, nullable=False),
        Column("started_at", Time, nullable=False),
        Column("problem", text(64), nullable=True),
        Column("retry_at", Time, nullable=True),
        Column("answer", Sealed, nullable=True),
        PrimaryKeyConstraint("record_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_refresh_attempts_team_id", "refresh_attempts", ["team_id"], if_not_exists=True)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("refresh_attempts", if_exists=True)
