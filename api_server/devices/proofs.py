"""Proofs of devices count once: the `jti` of each is taken in the transaction of what it is for."""

from __future__ import annotations

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.signin.tables import once
from common.crypto.device_keys import MAX_AGE, Proof

__all__ = ["take_once"]


async def take_once(tx: AsyncConnection, proof: Proof, now: float) -> None:
    """Take a proof; a second time the insert fails, and with it the transaction (`DatabaseConflictError`)."""
    await tx.execute(insert(once).values(kind="proof", key=proof.jti, expires_at=now + 2 * MAX_AGE))
