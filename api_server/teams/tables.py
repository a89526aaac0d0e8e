"""Teams, members and invitations."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index

from api_server.db.metadata import table
from api_server.db.types import Time, text

__all__ = ["invitation_teams", "invitations", "members", "teams"]

teams = table(
    "teams",
    Column("id", text(40), primary_key=True),
    Column("name", text(200), nullable=False),
    Column("description", text(1000), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by", text(64)),
    Column("deleted_at", Time),
)
"""A deleted team stays as a row: its id, which credentials carry, is never given out again."""

members = table(
    "members",
    Column("team_id", text(40), ForeignKey("teams.id"), primary_key=True),
    Column("user_id", text(40), ForeignKey("users.id"), primary_key=True),
    Column("role", text(16), nullable=False),
    Column("since", Time, nullable=False),
    Column("added_by", text(64)),
    Index(None, "user_id"),
)

invitations = table(
    "invitations",
    Column("id", text(40), primary_key=True),
    Column("token_hash", text(64), nullable=False, unique=True),
    Column("email", text(320), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("accepted_at", Time),
    Column("accepted_by", text(64)),
    Column("revoked_at", Time),
    Index(None, "expires_at"),
)

invitation_teams = table(
    "invitation_teams",
    Column("invitation_id", text(40), ForeignKey("invitations.id", ondelete="CASCADE"), primary_key=True),
    Column("team_id", text(40), ForeignKey("teams.id"), primary_key=True),
    Column("role", text(16), nullable=False),
    Index(None, "team_id"),
)
