"""An API for devices that pair: the real one, over SQLite, in a thread of its own beside trio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from api_server.db.database import Database
from api_server.db.migrate import upgrade
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import PROGRAM, Home, Person, running_domains

__all__ = ["Installation", "installation"]


@dataclass(frozen=True)
class Installation:
    """A running API."""

    home: Home
    portal: BlockingPortal

    @property
    def url(self) -> str:
        """Its base URL."""
        return str(self.home.http.base_url)

    def do(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Something on the API's side; waits for it."""
        return self.portal.call(work)

    def call(self, method: str, path: str, who: Person = PROGRAM, **options: Any) -> Any:
        """A request of somebody else; what it answers, None for nothing."""

        async def work() -> Any:
            answer = await self.home.call(method, path, who, **options)
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None

        return self.do(work)


@contextmanager
def installation(folder: Path, signer: SessionTokenSigner) -> Iterator[Installation]:
    """An API that listens until the block ends."""
    with start_blocking_portal("asyncio") as portal:

        async def migrated() -> Database:
            database = Database.connect(f"sqlite:///{folder / 'homeport.db'}")
            await upgrade(database)
            return database

        database = portal.call(migrated)
        try:
            with portal.wrap_async_context_manager(running_domains(database, signer)) as home:
                yield Installation(home, portal)
        finally:
            portal.call(database.close)
