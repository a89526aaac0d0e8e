"""Realms, the secrets of applications, their tokens, and what was asked of providers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, ForeignKeyConstraint, Index, Integer

from api_server.db.metadata import table
from api_server.db.types import Json, Sealed, Time, text

__all__ = ["realm_fetches", "realm_secrets", "realm_tokens", "realms"]

realms = table(
    "realms",
    Column("team_id", text(40), ForeignKey("teams.id"), primary_key=True),
    Column("id", text(64), primary_key=True),
    Column("comment", text(1000), nullable=False),
    Column("config", Json, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("updated_at", Time, nullable=False),
)

realm_secrets = table(
    "realm_secrets",
    Column("team_id", text(40), primary_key=True),
    Column("realm", text(64), primary_key=True),
    Column("key", text(64), primary_key=True),
    Column("uid", text(40), nullable=False),
    Column("comment", text(1000), nullable=False),
    Column("sealed", Sealed, nullable=False),
    Column("names", Json, nullable=False),
    Column("provider", text(300), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("updated_at", Time, nullable=False),
    ForeignKeyConstraint(["team_id", "realm"], ["realms.team_id", "realms.id"]),
)
"""`sealed` is the fields as JSON; `names` says which there are; `provider` where they may be sent."""

realm_tokens = table(
    "realm_tokens",
    Column("team_id", text(40), primary_key=True),
    Column("realm", text(64), primary_key=True),
    Column("key", text(64), primary_key=True),
    Column("uid", text(40), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("sealed", Sealed),
    Column("token_type", text(64), nullable=False),
    Column("fetched_at", Time),
    Column("expires_at", Time),
    Column("due_at", Time),
    Column("doubtful_since", Time),
    Column("flushed_at", Time),
    Column("failures", Integer, nullable=False),
    Column("failed_code", text(64), nullable=False),
    Column("failed_detail", text(300), nullable=False),
    Column("retry_at", Time),
    Column("refused_at", Time),
)
"""One row a secret. No error deletes a row or a token in it (B4).

`doubtful_since`: since then a call was begun of which nobody knows whether the provider has made a token; where a new
token ends the old one, the old one may be dead by now."""

realm_fetches = table(
    "realm_fetches",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), nullable=False),
    Column("realm", text(64), nullable=False),
    Column("key", text(64), nullable=False),
    Column("reason", text(16), nullable=False),
    Column("started_at", Time, nullable=False),
    Column("ended_at", Time),
    Column("outcome", text(16), nullable=False),
    Column("status", Integer),
    Column("code", text(64), nullable=False),
    Column("detail", text(300), nullable=False),
    Column("process", text(80), nullable=False),
    Index(None, "team_id", "realm", "id"),
)
"""Ids grow with time."""
