"""What was used."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer

from api_server.db.metadata import table
from api_server.db.types import text

__all__ = ["usage_counts"]

usage_counts = table(
    "usage_counts",
    Column("team_id", text(40), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("token", text(64), primary_key=True),
    Column("route", text(100), primary_key=True),
    Column("status", Integer, primary_key=True, autoincrement=False),
    Column("status_class", Integer, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Index(None, "hour"),
)
"""`hour` counts hours since the Unix epoch. Rows are added to by every process, and go after the retention."""
