"""A store of named documents, each with a tag that changes whenever the document does.

Names are `auths/{id}.json` of records, and the two of `api_server.custody.mirror`: nobody outside chooses them. What
comes back from a store is not trusted: whoever runs it can have put anything there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from api_server.custody.records import check_record_id

__all__ = ["MAX_DOCUMENT", "RECORDS", "Change", "Document", "Documents", "name_of"]

RECORDS = "auths/"
"""What the names of records begin with."""

MAX_DOCUMENT = 32 * 1024 * 1024
"""Bytes; the manifest is the largest, with some 100 bytes a record."""


def name_of(record_id: str) -> str:
    """The name of a record's document.

    Raises:
        InvalidRecordIdError: the id cannot be one.
    """
    check_record_id(record_id)
    return f"{RECORDS}{record_id}.json"


@dataclass(frozen=True, slots=True)
class Document:
    """What a store has under a name."""

    content: bytes
    tag: str
    """Of this state of it; means something to its store alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """What shall become of a name."""

    name: str
    content: bytes | None
    """None takes the document away."""
    expected: str | None
    """The tag that it must have now; None when there must be none."""


class Documents(Protocol):
    """A store of documents. Every call may raise `StoreUnavailableError` and `StoreRefusedError`."""

    @property
    def name(self) -> str:
        """Of its kind: `git`, `s3`, `postgresql`."""
        ...

    @property
    def destination(self) -> str:
        """Which place it is, exactly, without credentials: what is pinned."""
        ...

    @property
    def is_atomic(self) -> bool:
        """Whether `apply` does all that it is asked, or nothing, whenever it is cut."""
        ...

    async def open(self) -> None:
        """Reach the place, and find out whether it can do what is asked of it.

        Raises:
            DestinationError: it must not be used.
        """
        ...

    async def close(self) -> None:
        """Leave nothing open. Twice is no error."""
        ...

    async def forget(self) -> None:
        """Forget what was seen there before: what is there now is where everything begins."""
        ...

    async def refresh(self) -> None:
        """Have the calls below see what is there now; what they see may be as old as this call.

        Raises:
            DestinationAlteredError: what is there now does not follow from what was there before.
        """
        ...

    async def read(self, name: str) -> Document | None:
        """A document; None when there is none."""
        ...

    async def names(self, prefix: str) -> Sequence[str]:
        """Names that begin with `prefix`, in their order."""
        ...

    async def read_many(self, names: Sequence[str]) -> Mapping[str, Document]:
        """Those of the documents that are there."""
        ...

    async def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        """Do what is asked, in this order, and give the new tags; that of one taken away is empty.

        Raises:
            DocumentConflictError: a document has another tag than expected. Git and PostgreSQL have done nothing then;
                S3 what stood before it.
        """
        ...
