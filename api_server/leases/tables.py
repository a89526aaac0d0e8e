"""Who holds what."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column

from api_server.db.metadata import table
from api_server.db.types import Time, text

__all__ = ["leases"]

leases = table(
    "leases",
    Column("name", text(200), primary_key=True),
    Column("owner", text(80), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", Time, nullable=False),
)
"""A lease that was given back stays as a row that has run out."""
