"""A number a topic, by which processes learn what others have changed."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint

from api_server.db.types import text

revision = "0005"
down_revision = "0004"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "generations",
        Column("topic", text(40), nullable=False),
        Column("value", BigInteger, nullable=False),
        PrimaryKeyConstraint("topic"),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("generations", if_exists=True)
