"""The audit log, the end of its chain, and the signed checkpoints."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer

from api_server.db.metadata import table
from api_server.db.types import Json, Time, text

__all__ = ["audit_checkpoints", "audit_head", "audit_log"]

audit_log = table(
    "audit_log",
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", text(40), nullable=False, unique=True),
    Column("time", Time, nullable=False),
    Column("actor_kind", text(16), nullable=False),
    Column("actor_id", text(255), nullable=False),
    Column("actor_name", text(200), nullable=False),
    Column("team_id", text(40)),
    Column("action", text(64), nullable=False),
    Column("target_kind", text(40), nullable=False),
    Column("target_id", text(255), nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("request_id", text(64), nullable=False),
    Column("address", text(64), nullable=False),
    Column("outcome", text(32), nullable=False),
    Column("prev_hash", text(64), nullable=False),
    Column("hash", text(64), nullable=False),
    Index(None, "team_id", "seq"),
)

audit_head = table(
    "audit_head",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", text(64), nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)
"""One row: the newest row of the log. Who locks it writes the next."""

audit_checkpoints = table(
    "audit_checkpoints",
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", text(64), nullable=False),
    Column("time", Time, nullable=False),
    Column("key_id", text(64), nullable=False),
    Column("signature", text(128), nullable=False),
)
