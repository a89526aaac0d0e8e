"""An answer of a provider counts once: its state is taken in the table of what may happen once only."""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.signin.tables import once
from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError
from api_server.provider_tokens.errors import ConnectCallbackReplayedError

__all__ = ["spend_state"]


async def spend_state(database: Database, state: str, expires_at: float) -> None:
    """Take a state.

    Args:
        database: that the processes share.
        state: of a connection that this browser has under way.
        expires_at: when it may be forgotten, because its cookie has run out.

    Raises:
        ConnectCallbackReplayedError: it was taken before.
    """
    key = sha256(state.encode()).hexdigest()

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(insert(once).values(kind="connect_state", key=key, expires_at=expires_at))

    try:
        await database.write(work)
    except DatabaseConflictError:
        raise ConnectCallbackReplayedError("this connection is made already; begin anew if you want another") from None
