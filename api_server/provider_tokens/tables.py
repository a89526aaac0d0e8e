"""Refreshes that have begun and are not kept yet."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer

from api_server.db.metadata import table
from api_server.db.types import Sealed, Time, text

__all__ = ["refresh_attempts"]

refresh_attempts = table(
    "refresh_attempts",
    Column("record_id", text(128), primary_key=True),
    Column("team_id", text(40), nullable=False),
    Column("attempt_id", text(40), nullable=False),
    # Of the record whose refresh token was sent.
    Column("version", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    # Whether a try before the last one may have spent the refresh token.
    Column("doubtful", Boolean, nullable=False),
    Column("started_at", Time, nullable=False),
    # Of the last try, if it is known to have failed; and when there may be another.
    Column("problem", text(64)),
    Column("retry_at", Time),
    # What the provider gave, until the record has it.
    Column("answer", Sealed),
    Index(None, "team_id"),
)
"""The records themselves are in custody (`api_server.custody`)."""
