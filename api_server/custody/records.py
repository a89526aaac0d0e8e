"""A record: what is kept of one secret, which is in it sealed. And its form as a document, in stores of documents.

Ids are checked by criterion C6's pattern before any file or network is touched: they become names of files and objects.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from api_server.custody.errors import InvalidRecordIdError
from common.crypto.envelope import SealContext
from common.ids import TeamId

__all__ = ["Record", "check_record_id", "digest_of", "document_of", "record_id_of", "record_in"]

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}", re.ASCII)

_FORMAT = 1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed secret, and in clear what it is of. Whoever sees a copy sees all of this."""

    id: str
    kind: str
    """What is sealed, as in `SealContext`."""
    team: TeamId
    user: str
    """Whose it is; an id."""
    provider: str
    version: int
    """1 or more; grows with each change."""
    sealed: str
    """By `Envelope.seal` under `context()`."""
    updated_at: float
    """Seconds since the Unix epoch."""

    def context(self) -> SealContext:
        """What it must be sealed and opened under."""
        return SealContext(
            kind=self.kind, team=self.team, owner=self.user, name=self.provider, id=self.id, version=self.version
        )


def check_record_id(record_id: str) -> None:
    """Refuse an id that could mean something to a file system, a URL or a command.

    Raises:
        InvalidRecordIdError: it does not match `^[a-z0-9][a-z0-9._-]{0,127}$`, or has two dots in a row, or ends with
            a dot or `.lock`, which Git keeps for itself.
    """
    if _ID.fullmatch(record_id) is None or ".." in record_id or record_id.endswith((".", ".lock")):
        raise InvalidRecordIdError(
            "the id of a record is lower-case letters, digits, dots, hyphens and underscores, at most 128"
        )


def record_id_of(prefix: str, *parts: str) -> str:
    """The id of the one record of that kind that there can be for `parts`, such as team, user and provider.

    Args:
        prefix: three letters that say what it is the id of.
        parts: any texts.
    """
    hashed = hashlib.sha256(b"".join(len(raw := part.encode()).to_bytes(4, "big") + raw for part in parts))
    return f"{prefix}_{hashed.hexdigest()[:32]}"


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    record: Record


def document_of(record: Record) -> bytes:
    """The record as a JSON document; the same record gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(_Document(format=_FORMAT, record=record)), indent=2) + b"\n"


def record_in(document: bytes) -> Record | None:
    """The record in a document; None when there is none that can be read: whoever can write there may have."""
    try:
        found = msgspec.json.decode(document, type=_Document)
        check_record_id(found.record.id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidRecordIdError):
        return None
    return found.record if found.format == _FORMAT and found.record.version > 0 else None


def digest_of(document: bytes) -> str:
    """SHA-256 of a document, in hexadecimal."""
    return hashlib.sha256(document).hexdigest()
