"""The schema that the code works with: every table of every domain is on `METADATA`.

Invariants: constraints have names that follow from what they constrain, so that a migration can name them on each
database; text is compared exactly, upper and lower case and trailing blanks included.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import SchemaItem

__all__ = ["METADATA", "NAMES", "TABLE_OPTIONS", "table"]

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}

METADATA = MetaData(naming_convention=NAMES)

TABLE_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    # "nopad": with the plain utf8mb4_bin, 'a' would be equal to 'a '.
    "mysql_collate": "utf8mb4_nopad_bin",
}
"""Of every table; the other databases do not look at them."""


def table(name: str, *items: Column[Any] | SchemaItem) -> Table:
    """A table on `METADATA`."""
    return Table(name, METADATA, *items, **TABLE_OPTIONS)
