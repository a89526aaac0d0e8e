"""A process that refreshes a grant and is killed on the way: `python -m tests.api_server.provider_tokens.dying`.

It is told, as JSON in its first argument, where everything is and where it dies:

    before_request    the mark is made, nothing is sent
    before_answer     the provider has answered, nothing of it is written down
    after_answer      the answer is written down, the record is as it was
    after_commit      the record has it, nobody was told
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.interfaces import Also
from api_server.custody.records import Record
from api_server.db.database import Database
from api_server.provider_tokens.grants.attempts import Attempt, Attempts, RefreshAnswer
from api_server.provider_tokens.grants.records import GrantKey
from common.clock import SystemClock
from common.crypto.envelope import Envelope
from common.crypto.keyring import KeyringFile
from tests.api_server.provider_tokens.parts import KEY, loopback_http, parts_over

POINT = ""


def die() -> NoReturn:
    """As a machine that loses its power: no handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


class DyingAttempts(Attempts):
    """Dies before an answer is written down."""

    async def answered(self, key: GrantKey, attempt: Attempt, answer: RefreshAnswer) -> bool:
        if POINT == "before_answer":
            die()
        return await super().answered(key, attempt, answer)


class DyingStore(DatabaseRecordStore):
    """Dies before or after a record is changed."""

    async def put(self, record: Record, *, expected: int, also: Also | None = None) -> None:
        if POINT == "after_answer":
            die()
        await super().put(record, expected=expected, also=also)
        if POINT == "after_commit":
            die()


class DyingClient:
    """Dies before a refresh token is sent."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name == "refresh" and POINT == "before_request":
            die()
        return getattr(self._client, name)


async def main(told: dict[str, str]) -> None:
    """Refresh, and die."""
    clock, envelope = SystemClock(), Envelope(KeyringFile(Path(told["keyring"])))
    async with Database.connect(told["database"]) as database:
        parts = parts_over(
            database,
            envelope,
            clock,
            told["provider"],
            loopback_http(),
            store=DyingStore(database, clock),
            attempts=DyingAttempts,
            wrap=DyingClient,
        )
        await parts.tokens.access_token(KEY)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    POINT = given["point"]
    asyncio.run(main(given))
