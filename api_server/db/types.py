"""Types of columns that mean the same on every database.

Migrations use them, too: a type never changes what it makes; a new meaning gets a new name.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import BigInteger, String, Text
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from common.crypto.envelope import key_id_of

__all__ = ["Json", "Sealed", "Time", "text"]

_MICROSECONDS = 1_000_000


def text(length: int) -> TypeEngine[str]:
    """Text of at most `length` characters, compared and ordered by code points, on every database.

    PostgreSQL would order by the language that the database was made with. MariaDB's collation is that of the table.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Time(TypeDecorator[float]):
    """A moment: seconds since the Unix epoch in Python, microseconds in the database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> int | None:
        return None if value is None else round(value * _MICROSECONDS)

    def process_result_value(self, value: int | None, _dialect: Dialect) -> float | None:
        return None if value is None else value / _MICROSECONDS


class Json(TypeDecorator[Any]):
    """What JSON can express, kept as text: no database reads or normalises it. None is SQL's NULL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # MariaDB's TEXT ends at 64 KiB.
        return dialect.type_descriptor(MEDIUMTEXT() if dialect.name == "mysql" else Text())

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


class Sealed(TypeDecorator[str]):
    """What `common.crypto.envelope` has sealed. Nothing else can be written to such a column.

    Every column of this type is found by the check at the start and by the rotation of keys
    (`api_server.custody.keys`).
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(MEDIUMTEXT() if dialect.name == "mysql" else Text())

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        if value is not None:
            key_id_of(value)  # raises what does not quote it
        return value

    def process_result_value(self, value: str | None, _dialect: Dialect) -> str | None:
        return value
