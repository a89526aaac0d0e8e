"""The chain: what is hashed and signed, byte by byte. Pure functions; whoever verifies a log needs these alone.

    row 1 ──hash──> row 2 ──hash──> row 3 ──hash──> ...      each row holds the hash of the one before
                      │                                       and its own, over all it holds
                  checkpoint: Ed25519 over number and hash

A value is written as a netstring (D. J. Bernstein, 1997): its length in bytes in decimal, a colon, the bytes, a comma.
Nothing (NULL) is `-,`. Numbers are in decimal, times in microseconds since the Unix epoch, text in UTF-8, JSON exactly
as it is kept. So each sequence of values has one encoding, and each encoding is of one sequence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Final

__all__ = ["FIRST", "Checkpoint", "Row", "checkpoint_bytes", "hash_of", "row_bytes"]

FIRST: Final = "0" * 64
"""What the first row holds for the hash of the one before."""

_ROW: Final = "homeport-audit-1"
_CHECKPOINT: Final = "homeport-audit-checkpoint-1"
"""They begin what is hashed and what is signed, so that neither can pass for anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row, in the order in which its values are hashed."""

    seq: int
    """1, 2, 3 ... without gaps."""
    id: str
    time: int
    """Microseconds since the Unix epoch."""
    actor_kind: str
    actor_id: str
    actor_name: str
    team_id: str | None
    action: str
    target_kind: str
    target_id: str
    before: str | None
    """JSON, exactly as it is kept."""
    after: str | None
    request_id: str
    address: str
    outcome: str
    prev_hash: str
    """Of the row before; hexadecimal, here and below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Says that the row had this hash."""

    seq: int
    hash: str
    time: int
    """When it was signed; microseconds since the Unix epoch."""
    key_id: str
    """RFC 7638 thumbprint of the key."""


_FIELDS: Final = tuple(field.name for field in fields(Row))


def _netstring(value: str | int | None) -> bytes:
    if value is None:
        return b"-,"
    content = str(value).encode()
    return b"%d:%b," % (len(content), content)


def row_bytes(row: Row) -> bytes:
    """What is hashed."""
    return b"".join([_netstring(value) for value in (_ROW, *(getattr(row, name) for name in _FIELDS))])


def hash_of(row: Row) -> str:
    """The hash of a row: SHA-256, hexadecimal."""
    return hashlib.sha256(row_bytes(row)).hexdigest()


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """What is signed."""
    values = (_CHECKPOINT, checkpoint.seq, checkpoint.hash, checkpoint.time, checkpoint.key_id)
    return b"".join([_netstring(value) for value in values])
