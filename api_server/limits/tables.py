"""What limits are set."""

from __future__ import annotations

from sqlalchemy import Column

from api_server.db.metadata import table
from api_server.db.types import Json, Time, text

__all__ = ["limits"]

limits = table(
    "limits",
    Column("team_id", text(40), primary_key=True),
    Column("kind", text(16), primary_key=True),
    Column("subject", text(100), primary_key=True),
    Column("limits", Json, nullable=False),
    Column("changed_at", Time, nullable=False),
    Column("changed_by_kind", text(16), nullable=False),
    Column("changed_by", text(64), nullable=False),
)
"""The team is part of the key: a row of one team says nothing about a token or a route of another. The defaults of the
installation are rows with an empty team and an empty subject.
"""
