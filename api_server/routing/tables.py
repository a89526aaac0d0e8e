"""Routes, and the secrets that they show."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, UniqueConstraint

from api_server.db.metadata import table
from api_server.db.types import Json, Sealed, Time, text

__all__ = ["routes", "upstream_secrets"]

upstream_secrets = table(
    "upstream_secrets",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), ForeignKey("teams.id"), nullable=False),
    Column("name", text(40), nullable=False),
    Column("destination", text(300), nullable=False),
    Column("value", Sealed, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("updated_at", Time, nullable=False),
    UniqueConstraint("team_id", "name"),
)

routes = table(
    "routes",
    Column("id", text(40), primary_key=True),
    Column("team_id", text(40), ForeignKey("teams.id"), nullable=False),
    Column("name", text(40), nullable=False),
    Column("path", text(250), nullable=False, unique=True),
    Column("target", Json, nullable=False),
    Column("device_id", text(40)),
    Column("label", text(40)),
    Column("destination", text(300), nullable=False),
    Column("tags", Json, nullable=False),
    Column("auth", Json, nullable=False),
    Column("secret_id", text(40), ForeignKey("upstream_secrets.id")),
    Column("strip_prefix", Boolean, nullable=False),
    Column("health", Json),
    Column("cors", Json),
    Column("inspect", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by_kind", text(16), nullable=False),
    Column("created_by", text(64), nullable=False),
    Column("updated_at", Time, nullable=False),
    UniqueConstraint("team_id", "name"),
    Index(None, "team_id", "label"),
    Index(None, "secret_id"),
)
"""`path` is in its normal form, so that two routes never tie. `device_id` is what the name in `target` stood for when
it was saved; `destination` is what a secret must be for."""
