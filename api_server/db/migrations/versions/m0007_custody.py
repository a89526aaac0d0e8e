"""Records of custody, what the mirrors have of them, and the mirrors."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint

from api_server.db.types import Sealed, Time, text

revision = "0007"
down_revision = "0006"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "custody_records",
        Column("id", text(128), nullable=False),
        Column("kind", text(40), nullable=False),
        Column("team_id", text(40), nullable=False),
        Column("user_id", text(128), nullable=False),
        Column("provider", text(64), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("sealed", Sealed, nullable=True),
        Column("updated_at", Time, nullable=False),
        Column("deleted_at", Time, nullable=True),
        PrimaryKeyConstraint("id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_custody_records_team_id_user_id", "custody_records", ["team_id", "user_id"], if_not_exists=True)
    op.create_table(
        "custody_copies",
        Column("mirror", text(16), nullable=False),
        Column("record_id", text(128), nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("digest", text(64), nullable=False),
        Column("tag", text(200), nullable=False),
        Column("acknowledged_at", Time, nullable=False),
        PrimaryKeyConstraint("mirror", "record_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "custody_mirrors",
        Column("name", text(16), nullable=False),
        Column("destination", text(500), nullable=False),
        Column("pinned_at", Time, nullable=False),
        Column("manifest_number", BigInteger, nullable=False),
        Column("manifest_digest", text(64), nullable=False),
        Column("next_number", BigInteger, nullable=True),
        Column("next_digest", text(64), nullable=True),
        Column("attempted_at", Time, nullable=True),
        Column("acknowledged_at", Time, nullable=True),
        Column("problem", text(64), nullable=True),
        Column("problem_detail", text(500), nullable=True),
        Column("allowed_deletions", Integer, nullable=True),
        Column("state", text(16), nullable=False),
        PrimaryKeyConstraint("name"),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("custody_mirrors", if_exists=True)
    op.drop_table("custody_copies", if_exists=True)
    op.drop_table("custody_records", if_exists=True)
