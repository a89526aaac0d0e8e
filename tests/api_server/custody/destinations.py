"""Places for mirrors, each kind behind one face: what a mirror, or somebody who attacks it, can do there."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx

from api_server.custody.destinations import place_of
from api_server.custody.documents.interfaces import Change, Document, Documents
from api_server.custody.git.command import Remote
from api_server.custody.git.documents import GitDocuments
from api_server.custody.postgresql.documents import PostgresDocuments
from api_server.custody.s3.documents import S3Documents
from api_server.db.engine import Kind
from common.clock import SystemClock
from common.secret import Secret
from tests.databases.fixtures import FreshDatabase
from tests.stack.git_http import GitServer, git_server
from tests.stack.s3 import S3Server, s3_server

__all__ = ["KINDS", "Destination", "Destinations", "git_destination", "s3_destination"]

KINDS = ("git", "s3", "postgresql")


class Destination:
    """A place, empty at first.

    Args:
        settings: that name it, as environment variables.
        client: makes a client of it, with what it remembers in a folder of that name.
    """

    def __init__(self, settings: dict[str, str], client: Callable[[str], Documents]) -> None:
        self.settings = settings
        self._make = client
        self._made: list[Documents] = []

    def documents(self, name: str = "homeport") -> Documents:
        """A client; the same name stands for the same machine."""
        return self._client(name)

    async def close(self) -> None:
        """Close every client."""
        for documents in self._made:
            await documents.close()

    def _client(self, name: str) -> Documents:
        self._made.append(self._make(name))
        return self._made[-1]

    async def everything(self) -> dict[str, Document]:
        """What is there, as an attacker sees it."""
        spy = self._client(f"spy-{uuid.uuid4().hex}")
        await spy.open()
        await spy.refresh()
        found = await spy.read_many(await spy.names(""))
        await spy.close()
        return dict(found)

    async def become(self, wanted: dict[str, bytes]) -> None:
        """Have exactly that there, as an attacker who can write may."""
        attacker = self._client(f"attacker-{uuid.uuid4().hex}")
        await attacker.open()
        await attacker.refresh()
        there = await attacker.read_many(await attacker.names(""))
        changes = [
            Change(name, wanted.get(name), there[name].tag if name in there else None)
            for name in sorted({*there, *wanted})
            if name not in there or there[name].content != wanted.get(name)
        ]
        if changes:
            await attacker.apply(changes)
        await attacker.close()


class Destinations:
    """Makes places; servers start when they are first wanted, and end with `close`.

    Args:
        folder: for what they keep.
        fresh: makes databases.
    """

    def __init__(self, folder: Path, fresh: FreshDatabase) -> None:
        self._folder = folder
        self._fresh = fresh

    def make(self, kind: str) -> AbstractContextManager[Destination]:
        """A place of that kind."""
        makers = {"git": self._git, "s3": self._s3, "postgresql": self._postgresql}
        return makers[kind]()

    @contextmanager
    def _git(self) -> Iterator[Destination]:
        name = f"{uuid.uuid4().hex}.git"
        with git_server(self._folder / "served") as server:
            repository = server.folder / name
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
            subprocess.run(["git", "-C", str(repository), "config", "http.receivepack", "true"], check=True)
            yield git_destination(server, name, self._folder)

    @contextmanager
    def _s3(self) -> Iterator[Destination]:
        with s3_server() as server:
            yield s3_destination(server)

    @contextmanager
    def _postgresql(self) -> Iterator[Destination]:
        with self._fresh(Kind.POSTGRESQL, migrated=False) as url:
            dsn = url.replace("+psycopg", "")
            yield Destination(
                {"PGSTORE_DSN": dsn}, lambda _client: PostgresDocuments(Secret(dsn), "homeport_custody", timeout=30)
            )


def git_destination(server: GitServer, repository: str, folder: Path) -> Destination:
    """A repository of a server, with clones in a folder."""
    url = f"http://{server.address}/{repository}"
    remote = Remote(place_of(url, "url"), "git", Secret("token-of-git"))
    return Destination(
        {"GITSTORE_GIT_URL": url, "GITSTORE_GIT_TOKEN": "token-of-git"},
        lambda client: GitDocuments(remote, "main", folder / client, SystemClock(), timeout=30),
    )


def s3_destination(server: S3Server, *, timeout: float = 30) -> Destination:
    """A bucket of a server."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    httpx.put(f"{server.url}/{bucket}", trust_env=False).raise_for_status()
    place = place_of(server.url, "url")
    return Destination(
        {
            "OBJECTSTORE_ENDPOINT": server.url,
            "OBJECTSTORE_BUCKET": bucket,
            "OBJECTSTORE_ACCESS_KEY": "id-of-key",
            "OBJECTSTORE_SECRET_KEY": "secret-of-s3",
            "OBJECTSTORE_PREFIX": "pre/fix",
        },
        lambda _client: S3Documents(
            place, bucket, prefix="pre/fix", access_key="id-of-key", secret_key=Secret("secret-of-s3"), timeout=timeout
        ),
    )
