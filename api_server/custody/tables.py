"""Records, what the mirrors have of them, and the mirrors."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint

from api_server.db.metadata import table
from api_server.db.types import Sealed, Time, text

__all__ = ["custody_copies", "custody_mirrors", "custody_records"]

custody_records = table(
    "custody_records",
    Column("id", text(128), primary_key=True),
    Column("kind", text(40), nullable=False),
    Column("team_id", text(40), nullable=False),
    Column("user_id", text(128), nullable=False),
    Column("provider", text(64), nullable=False),
    Column("version", BigInteger, nullable=False),
    # Grows with every change of the row, the re-wrapping of its key included: what a mirror has is told by it.
    Column("revision", BigInteger, nullable=False),
    Column("sealed", Sealed),
    Column("updated_at", Time, nullable=False),
    # Of a deleted record only this and its version stay: mirrors must learn of it, and no old version may come back.
    Column("deleted_at", Time),
    Index(None, "team_id", "user_id"),
)

custody_copies = table(
    "custody_copies",
    Column("mirror", text(16), nullable=False),
    Column("record_id", text(128), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    # Of the document at the mirror.
    Column("digest", text(64), nullable=False),
    # By which the mirror knows that state of it.
    Column("tag", text(200), nullable=False),
    Column("acknowledged_at", Time, nullable=False),
    PrimaryKeyConstraint("mirror", "record_id"),
)
"""What each mirror has acknowledged. A record that is further, or deleted, is still to be told."""

custody_mirrors = table(
    "custody_mirrors",
    Column("name", text(16), primary_key=True),
    Column("destination", text(500), nullable=False),
    Column("pinned_at", Time, nullable=False),
    # The newest manifest that is known to be there, and the one that is being written.
    Column("manifest_number", BigInteger, nullable=False),
    Column("manifest_digest", text(64), nullable=False),
    Column("next_number", BigInteger),
    Column("next_digest", text(64)),
    Column("attempted_at", Time),
    Column("acknowledged_at", Time),
    Column("problem", text(64)),
    Column("problem_detail", text(500)),
    # How many deletions somebody has allowed in one sync.
    Column("allowed_deletions", Integer),
    Column("state", text(16), nullable=False),
)
