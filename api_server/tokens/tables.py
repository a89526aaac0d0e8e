"""API tokens. Of a token there are its first characters and a keyed hash, and of the one before it a hash as well."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer

from api_server.db.metadata import table
from api_server.db.types import Json, Time, text

__all__ = ["api_tokens"]

api_tokens = table(
    "api_tokens",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), ForeignKey("teams.id"), nullable=False),
    Column("name", text(100), nullable=False),
    Column("description", text(1000), nullable=False),
    Column("start", text(16), nullable=False),
    Column("token_hash", text(64), nullable=False, unique=True),
    Column("previous_hash", text(64), unique=True),
    Column("previous_expires_at", Time),
    Column("scopes", Json, nullable=False),
    Column("addresses", Json, nullable=False),
    Column("issuer_kind", text(16), nullable=False),
    Column("issuer_id", text(64), nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("parent_id", text(40)),
    Column("created_at", Time, nullable=False),
    Column("issued_at", Time, nullable=False),
    Column("expires_at", Time),
    Column("revoked_at", Time),
    Column("last_used_at", Time),
    Column("warned", Integer, nullable=False),
    Index(None, "team_id", "id"),
    Index(None, "issuer_id"),
    Index(None, "parent_id"),
    Index(None, "expires_at"),
)
"""
previous_hash   of the token that was replaced, until `previous_expires_at`
issuer          whose rights it is held against: a user, or the administration token
parent_id       the token that made it, and takes it along when it is revoked
issued_at       when what is shown now was made: at first, or by a rotation
warned          how many of the warnings before `expires_at` are over
"""
