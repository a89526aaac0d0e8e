"""The audit log, the end of its chain, and the signed checkpoints."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, PrimaryKeyConstraint, UniqueConstraint

from api_server.db.types import Json, Time, text

revision = "0004"
down_revision = "0003"

OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "audit_log",
        Column("seq", BigInteger, autoincrement=False, nullable=False),
        Column("id", text(40), nullable=False),
        Column("time", Time, nullable=False),
        Column("actor_kind", text(16), nullable=False),
        Column("actor_id", text(255), nullable=False),
        Column("actor_name", text(200), nullable=False),
        Column("team_id", text(40), nullable=True),
        Column("action", text(64), nullable=False),
        Column("target_kind", text(40), nullable=False),
        Column("target_id", text(255), nullable=False),
        Column("before", Json, nullable=True),
        Column("after", Json, nullable=True),
        Column("request_id", text(64), nullable=False),
        Column("address", text(64), nullable=False),
        Column("outcome", text(32), nullable=False),
        Column("prev_hash", text(64), nullable=False),
        Column("hash", text(64), nullable=False),
        PrimaryKeyConstraint("seq"),
        UniqueConstraint("id", name="uq_audit_log_id"),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index("ix_audit_log_team_id_seq", "audit_log", ["team_id", "seq"], if_not_exists=True)
    op.create_table(
        "audit_head",
        Column("id", Integer, autoincrement=False, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("hash", text(64), nullable=False),
        PrimaryKeyConstraint("id"),
        CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
        if_not_exists=True,
        **OPTIONS,
    )
    # Not a second time, where a migration is run again that was cut.
    op.execute(
        "INSERT INTO audit_head (id, seq, hash) "
        "SELECT 1, 0, '0000000000000000000000000000000000000000000000000000000000000000' "
        "WHERE NOT EXISTS (SELECT 1 FROM audit_head)"
    )
    op.create_table(
        "audit_checkpoints",
        Column("seq", BigInteger, autoincrement=False, nullable=False),
        Column("hash", text(64), nullable=False),
        Column("time", Time, nullable=False),
        Column("key_id", text(64), nullable=False),
        Column("signature", text(128), nullable=False),
        PrimaryKeyConstraint("seq"),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("audit_checkpoints", if_exists=True)
    op.drop_table("audit_head", if_exists=True)
    op.drop_table("audit_log", if_exists=True)
