"""Which keys the database needs: of every column of type `Sealed`, of every domain.

Criterion C2: a key that something sealed needs and that is not there stops the start. What a process finds out only
when somebody asks for a secret would be found out too late to bring the key back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Column, Integer, MetaData, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.database import Database
from api_server.db.schema import METADATA
from api_server.db.types import Sealed
from common.crypto.envelope import PREFIX_LENGTH, key_id_of
from common.crypto.errors import KeyMissingError, SealBrokenError
from common.crypto.keyring import Keyring

__all__ = ["check_keys", "count_by_key", "sealed_columns"]


def sealed_columns(metadata: MetaData = METADATA) -> tuple[Column[str], ...]:
    """Every column that holds sealed texts, in the order of table and column names."""
    columns = (column for table in metadata.tables.values() for column in table.columns)
    found = [column for column in columns if isinstance(column.type, Sealed)]
    return tuple(sorted(found, key=lambda column: (column.table.name, column.name)))


async def count_by_key(tx: AsyncConnection, columns: Iterable[Column[str]]) -> Counter[str]:
    """How many sealed texts need each key, by its id. It reads every row.

    Raises:
        SealBrokenError: a column holds something that is not sealed; the detail names the column.
    """
    counted: Counter[str] = Counter()
    for column in columns:
        # Literals, not parameters: PostgreSQL compares the expression with that of GROUP BY before it knows those.
        prefix = func.substr(column, literal_column("1", Integer), literal_column(str(PREFIX_LENGTH), Integer))
        query = select(prefix, func.count()).where(column.is_not(None)).group_by(prefix)
        for start, number in await tx.execute(query):
            try:
                counted[key_id_of(f"{start}.")] += number
            except SealBrokenError:
                where = f"{column.table.name}.{column.name}"
                raise SealBrokenError(f"{number} rows of {where} hold something that is not sealed") from None
    return counted


async def check_keys(database: Database, keyring: Keyring, columns: Iterable[Column[str]] | None = None) -> None:
    """Find out whether every key is there that something in the database needs.

    Args:
        database: with the schema of this code.
        keyring: the keys that there are.
        columns: to look at; by default every sealed one of the schema.

    Raises:
        KeyMissingError: one is not; the detail names its id.
        SealBrokenError: a sealed column holds something that is not sealed.
        DatabaseUnavailableError: the database cannot be reached.
    """
    asked = sealed_columns() if columns is None else tuple(columns)
    counted = await database.read(lambda tx: count_by_key(tx, asked))
    for key_id in sorted(counted):
        if key_id not in keyring.ids:
            number = counted[key_id]
            raise KeyMissingError(key_id, f"the database ({number} sealed {'text' if number == 1 else 'texts'})")
