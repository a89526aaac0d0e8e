"""Errors of custody.

HomeportError
└── CustodyError                        500 custody_failed             base
    ├── InvalidRecordIdError            422 invalid_record_id          an id that could mean something to a file system
    ├── RecordNotFoundError             404 record_not_found           there is none of that id
    ├── RecordConflictError             409 record_conflict            somebody else has changed it meanwhile
    ├── DocumentConflictError           409 document_conflict          so has a document in a store of documents
    ├── DatabaseNotEmptyError           409 database_not_empty         records are restored into an empty database alone
    ├── KeyStillNeededError             409 key_still_needed           a key that something needs is not forgotten
    ├── StoreUnavailableError           503 store_unavailable          it cannot be reached, or is slow; Retry-After
    │   ├── StoreBusyError              503 store_busy                 another process of this installation is at it
    │   └── PrimaryBehindError          503 primary_behind             what was changed is kept here, and not there yet
    ├── StoreRefusedError               502 store_refused              it answers, and says no
    └── DestinationError                500 destination_refused        nothing more is sent there until somebody looks
        ├── DestinationSettingsError    500 destination_settings       its settings cannot be right
        ├── DestinationChangedError     500 destination_changed        the settings name another one than was pinned
        ├── DestinationUnprovenError    500 destination_unproven       it does not show our signed marker
        ├── ConditionsIgnoredError      500 store_ignores_conditions   it overwrites what it was told not to
        ├── DestinationAlteredError     500 destination_altered        tampered with, rolled back, or rewritten
        ├── DestinationAheadError       500 destination_ahead          it has what this database has not
        └── DeletionHeldError           500 deletion_held              a sync would delete more than a fifth

Details name ids, destinations (never with credentials) and what to do; no token, no key, nothing that was sealed.
"""

from __future__ import annotations

from typing import ClassVar

from common.errors import HomeportError

__all__ = [
    "ConditionsIgnoredError",
    "CustodyError",
    "DatabaseNotEmptyError",
    "DeletionHeldError",
    "DestinationAheadError",
    "DestinationAlteredError",
    "DestinationChangedError",
    "DestinationError",
    "DestinationSettingsError",
    "DestinationUnprovenError",
    "DocumentConflictError",
    "InvalidRecordIdError",
    "KeyStillNeededError",
    "PrimaryBehindError",
    "RecordConflictError",
    "RecordNotFoundError",
    "StoreBusyError",
    "StoreRefusedError",
    "StoreUnavailableError",
]


class CustodyError(HomeportError):
    """Base of the errors of custody."""

    code: ClassVar[str] = "custody_failed"
    title: ClassVar[str] = "Custody failed"


class InvalidRecordIdError(CustodyError):
    """An id is not of the form that every store can take. Nothing was looked at."""

    code: ClassVar[str] = "invalid_record_id"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The id of the record is not allowed"


class RecordNotFoundError(CustodyError):
    """The store has no record of that id."""

    code: ClassVar[str] = "record_not_found"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "There is no such record"


class RecordConflictError(CustodyError):
    """The record is at another version than the caller had read: read it again, and decide anew.

    Args:
        record_id: of the record.
        current: version that it has now, or had when it was deleted; 0 when there never was one. A record that is
            made anew needs a higher one.
    """

    code: ClassVar[str] = "record_conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The record was changed meanwhile"

    def __init__(self, record_id: str, current: int) -> None:
        super().__init__(f"the record {record_id} was changed meanwhile; it is at version {current}")
        self.current = current


class DocumentConflictError(CustodyError):
    """A document at a store is in another state than was expected.

    Args:
        name: of the document.
    """

    code: ClassVar[str] = "document_conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "A document was changed meanwhile"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was changed meanwhile")
        self.name = name


class DatabaseNotEmptyError(CustodyError):
    """Records are restored into an empty database alone: there are some here, which could be newer."""

    code: ClassVar[str] = "database_not_empty"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The database is not empty"


class KeyStillNeededError(CustodyError):
    """Something still needs the key, so that it is not forgotten."""

    code: ClassVar[str] = "key_still_needed"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The key is still needed"


class StoreUnavailableError(CustodyError):
    """A record store cannot be reached, or does not answer in time. Whether a write holds may be unknown."""

    code: ClassVar[str] = "store_unavailable"
    status: ClassVar[int] = 503
    title: ClassVar[str] = "A record store is unavailable"

    def __init__(self, detail: str = "", *, retry_after: float | None = 5.0) -> None:
        super().__init__(detail, retry_after=retry_after)


class StoreBusyError(StoreUnavailableError):
    """Another process of this installation is at the destination, and one at a time is."""

    code: ClassVar[str] = "store_busy"
    title: ClassVar[str] = "Another process is at the store"


class PrimaryBehindError(StoreUnavailableError):
    """The change is kept in the database, and the primary has not acknowledged it; it will be sent by itself. Do not
    repeat it, look.
    """

    code: ClassVar[str] = "primary_behind"
    title: ClassVar[str] = "The primary has not acknowledged the change"


class StoreRefusedError(CustodyError):
    """A record store answers and says no: the credential, a right, a rule of the server."""

    code: ClassVar[str] = "store_refused"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "A record store refuses"


class DestinationError(CustodyError):
    """Nothing more is sent to a destination until somebody has looked."""

    code: ClassVar[str] = "destination_refused"
    title: ClassVar[str] = "The destination is refused"


class DestinationSettingsError(DestinationError):
    """The settings of a destination cannot be right: no TLS, a part is missing."""

    code: ClassVar[str] = "destination_settings"
    title: ClassVar[str] = "The settings of the destination are wrong"


class DestinationChangedError(DestinationError):
    """The settings name another destination than the one that was pinned. `homeport custody adopt` pins the new one."""

    code: ClassVar[str] = "destination_changed"
    title: ClassVar[str] = "The destination is another one"


class DestinationUnprovenError(DestinationError):
    """The destination does not show the marker that this installation signed, or shows one for another place."""

    code: ClassVar[str] = "destination_unproven"
    title: ClassVar[str] = "The destination is not proven"


class ConditionsIgnoredError(DestinationError):
    """The server overwrites an object although it was told to only if there is none, or if it is unchanged."""

    code: ClassVar[str] = "store_ignores_conditions"
    title: ClassVar[str] = "The store ignores conditions"


class DestinationAlteredError(DestinationError):
    """The destination is not as it was left: changed, rolled back to an older state, or its history rewritten."""

    code: ClassVar[str] = "destination_altered"
    title: ClassVar[str] = "The destination was altered"


class DestinationAheadError(DestinationError):
    """The destination holds records, or a state, that this database has not: `homeport custody restore` brings them."""

    code: ClassVar[str] = "destination_ahead"
    title: ClassVar[str] = "The destination is ahead of the database"


class DeletionHeldError(DestinationError):
    """A sync would delete more than a fifth of what is there. `homeport custody sync --allow-deletions` lets it."""

    code: ClassVar[str] = "deletion_held"
    title: ClassVar[str] = "A mass deletion is held"
