"""Leases."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint

from api_server.db.types import Time, text

revision = "0006"
down_revision = "0005"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "leases",
        Column("name", text(200), nullable=False),
        Column("owner", text(80), nullable=False),
        Column("token", BigInteger, nullable=False),
        Column("expires_at", Time, nullable=False),
        PrimaryKeyConstraint("name"),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("leases", if_exists=True)
