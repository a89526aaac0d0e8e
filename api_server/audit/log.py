"""Writes entries into the chain, each in the transaction of its action.

    1. lock the end of the chain (audit_head)     writers wait here for one another, whichever process they are in
    2. the row, with the hash of the one before
    3. the new end of the chain
    4. every `EVERY` rows: a signed checkpoint

Nothing is kept in the process: a transaction that is run anew, or rolled back, takes its place in the chain back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, String, Text, insert, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.chain import Row, hash_of
from api_server.audit.checkpoints import Checkpoints
from api_server.audit.errors import AuditLogBrokenError
from api_server.audit.records import AuditEntry
from api_server.audit.tables import audit_head, audit_log
from common.clock import Clock
from common.ids import new_id

__all__ = ["EVERY", "ChainedAuditLog"]

EVERY: Final = 100
"""Rows from one checkpoint to the next."""

_MAX_JSON: Final = 64 * 1024
"""Bytes of `before` or `after`; what is larger is kept as its size alone."""

_CUT = "\N{HORIZONTAL ELLIPSIS}"
"""Ends a text that was cut."""


class ChainedAuditLog:
    """Implements `AuditLog`.

    Args:
        checkpoints: signs the chain.
        clock: for the times in it.
    """

    def __init__(self, checkpoints: Checkpoints, clock: Clock) -> None:
        self._checkpoints = checkpoints
        self._clock = clock

    async def record(self, tx: AsyncConnection, entry: AuditEntry) -> None:
        """As `AuditLog` says.

        Raises:
            AuditLogBrokenError: the end of the chain is missing.
        """
        head = (await tx.execute(select(audit_head.c.seq, audit_head.c.hash).with_for_update())).one_or_none()
        if head is None:
            raise AuditLogBrokenError("the end of the audit log is missing: see `homeport audit verify`")
        now = round(self._clock.wall() * 1_000_000)
        row = Row(
            seq=head.seq + 1,
            id=new_id("aud"),
            time=now,
            actor_kind=_fit(entry.actor.kind, "actor_kind"),
            actor_id=_fit(entry.actor.id, "actor_id"),
            actor_name=_fit(entry.actor.name, "actor_name"),
            team_id=entry.team,
            action=entry.action,
            target_kind=_fit(entry.target_kind, "target_kind"),
            target_id=_fit(entry.target_id, "target_id"),
            before=_json(entry.before),
            after=_json(entry.after),
            request_id=_fit(entry.request_id, "request_id"),
            address=_fit(entry.address, "address"),
            outcome=_fit(entry.outcome, "outcome"),
            prev_hash=head.hash,
        )
        digest = hash_of(row)
        await tx.execute(insert(audit_log).values(**_values(row), hash=digest))
        await tx.execute(update(audit_head).values(seq=row.seq, hash=digest))
        if row.seq % EVERY == 0:
            await self._checkpoints.sign(tx, row.seq, digest, now)


def _values(row: Row) -> dict[str, Any]:
    """The columns, with time and JSON past their types: what is kept is what was hashed."""
    values: dict[str, Any] = {name: getattr(row, name) for name in Row.__slots__}
    values["time"] = type_coerce(row.time, BigInteger())
    for name in ("before", "after"):
        if values[name] is not None:
            values[name] = type_coerce(values[name], Text())
    return values


def _fit(text: str, column: str) -> str:
    """`text` as every database keeps it: no NUL (PostgreSQL), no half of a surrogate pair (UTF-8), not too long."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    kind = audit_log.c[column].type
    assert isinstance(kind, String)
    assert kind.length is not None
    limit = kind.length
    return text if len(text) <= limit else text[: limit - 1] + _CUT


def _json(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    # Sorted, so that the same is kept in the same way. JSON escapes a NUL.
    encoded = msgspec.json.encode(value, order="deterministic")
    if len(encoded) > _MAX_JSON:
        encoded = msgspec.json.encode({"left_out_bytes": len(encoded)})
    return encoded.decode()
