"""A number a topic, which grows with each change."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column

from api_server.db.metadata import table
from api_server.db.types import text

__all__ = ["generations"]

generations = table(
    "generations",
    Column("topic", text(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
