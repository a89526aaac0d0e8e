"""What limits are set."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, PrimaryKeyConstraint

from api_server.db.types import Json, Time, text

revision = "0008"
down_revision = "0007"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "limits",
        Column("team_id", text(40), nullable=False),
        Column("kind", text(16), nullable=False),
        Column("subject", text(100), nullable=False),
        Column("limits", Json, nullable=False),
        Column("changed_at", Time, nullable=False),
        Column("changed_by_kind", text(16), nullable=False),
        Column("changed_by", text(64), nullable=False),
        PrimaryKeyConstraint("team_id", "kind", "subject"),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("limits", if_exists=True)
