"""What was used, by the hour."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint

from api_server.db.types import text

revision = "0009"
down_revision = "0008"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "usage_counts",
        Column("team_id", text(40), nullable=False),
        Column("hour", Integer, nullable=False, autoincrement=False),
        Column("token", text(64), nullable=False),
        Column("route", text(100), nullable=False),
        Column("status", Integer, nullable=False, autoincrement=False),
        Column("status_class", Integer, nullable=False),
        Column("requests", BigInteger, nullable=False),
        Column("bytes_in", BigInteger, nullable=False),
        Column("bytes_out", BigInteger, nullable=False),
        PrimaryKeyConstraint("team_id", "hour", "token", "route", "status"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_usage_counts_hour", "usage_counts", ["hour"], if_not_exists=True)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("usage_counts", if_exists=True)
