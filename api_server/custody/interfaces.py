"""What other domains ask of custody: a place for records whose secrets are sealed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.records import Record
from common.ids import TeamId

__all__ = ["Also", "RecordStore", "StoreHealth"]

Also = Callable[[AsyncConnection], Awaitable[None]]
"""What else belongs to a change, such as its entry in the audit log, or a look at a fencing token."""


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a store is."""

    store: str
    """Its name: `database`, `git`, `s3`, `postgresql`."""
    ok: bool
    detail: str
    """Where it is, and what is wrong; for people, without credentials."""


class RecordStore(Protocol):
    """Keeps records. Every change says which version it was decided on, so that nobody's is lost (criterion C3).

    `tests/api_server/custody/record_store_contract.py` says what holds for every store.
    """

    @property
    def name(self) -> str:
        """Which kind of store it is, for people and for settings."""
        ...

    async def get(self, record_id: str) -> Record:
        """A record.

        Raises:
            InvalidRecordIdError: the id cannot be one.
            RecordNotFoundError: there is none of that id.
            CustodyError: the store is unavailable, or refuses.
        """
        ...

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        """Keep a record, new or changed.

        Args:
            record: its version is higher than `expected`; id, kind, team, user and provider of one that is there stay.
            expected: the version that the caller has read; 0 when there was none.
            also: done in the same transaction of the database, behind the change; its errors undo the change.

        Raises:
            InvalidRecordIdError: the id cannot be one.
            RecordConflictError: there is another version by now, or one was deleted that had a version as high.
            ValueError: the version is not higher than `expected`.
            PrimaryBehindError: the change is kept in the database, and the primary has not acknowledged it yet.
            CustodyError: the store is unavailable, or refuses. Unless it refused, the change may hold.
        """
        ...

    async def delete(self, record_id: str, *, expected: int, also: Also | None = None) -> None:
        """Forget a record.

        Raises:
            InvalidRecordIdError: the id cannot be one.
            RecordNotFoundError: there is none of that id.
            RecordConflictError: there is another version by now.
            CustodyError: as for `put`.
        """
        ...

    async def list(
        self, *, limit: int, after: str | None = None, team: TeamId | None = None, user: str | None = None
    ) -> Sequence[Record]:
        """Records in the order of their ids, at most `limit`.

        Args:
            limit: 1 or more.
            after: only those whose ids come behind this one.
            team: only those of that team.
            user: only those of that user.

        Raises:
            CustodyError: the store is unavailable, or refuses.
        """
        ...

    async def ready(self) -> None:
        """Find out whether a change that is made now would soon be where it has to be: asked before something is begun
        that must not be lost, such as the rotation of a token.

        Raises:
            CustodyError: it would not.
        """
        ...

    async def health(self) -> StoreHealth:
        """How the store is; it raises nothing."""
        ...
