"""A folder that holds the same documents as a destination, for whoever wants to look at them without it.

    folder/auths/{id}.json    each as it is at the destination, mode 0600
    folder/homeport/...       marker and manifest

It is written after the destination has acknowledged, and never read as truth: what is read here is compared with
digests, and what differs or is missing is fetched. That is done at the start, and again whenever the folder's manifest
is not the one that was left there. A folder that cannot be written keeps nothing from being sent: it is told in the
log, and made good later.

Names are those that `api_server.custody.documents` lets through. Every file is reached through the folders above it,
none of which may be a symbolic link (criterion C6).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from api_server.custody.documents.interfaces import MAX_DOCUMENT, RECORDS, Change, Document, Documents, name_of
from api_server.custody.mirror.statements import MANIFEST, MARKER, Manifest
from api_server.custody.records import digest_of
from common.logging import Logger, get_logger

__all__ = ["LocallyCopied"]

T = TypeVar("T")

_BATCH = 100
"""Documents fetched at a time."""


class LocallyCopied:
    """A `Documents` with a copy in a folder.

    Args:
        inner: the destination; whatever is asked is asked there.
        folder: made when it is not there.
        log: for what cannot be written.
    """

    def __init__(self, inner: Documents, folder: Path, *, log: Logger | None = None) -> None:
        self._inner = inner
        self._folder = _Folder(folder.absolute())
        self._log = log if log is not None else get_logger("api_server.custody")
        self._left: str | None = None
        """Digest of the manifest that the folder was left with, once it was whole."""

    @property
    def name(self) -> str:
        """Of the destination's kind."""
        return self._inner.name

    @property
    def destination(self) -> str:
        """Which place it is."""
        return self._inner.destination

    @property
    def is_atomic(self) -> bool:
        """As the destination is."""
        return self._inner.is_atomic

    async def open(self) -> None:
        """Reach the destination, as `Documents` says."""
        await self._inner.open()
        self._left = None

    async def close(self) -> None:
        """As `Documents` says."""
        await self._inner.close()

    async def forget(self) -> None:
        """As `Documents` says."""
        await self._inner.forget()
        self._left = None

    async def refresh(self) -> None:
        """As `Documents` says; and the copy is made good, if it is not whole."""
        await self._inner.refresh()
        if self._left is None or await self._written(lambda: self._folder.digest(MANIFEST)) != self._left:
            await self._rebuild()

    async def read(self, name: str) -> Document | None:
        """As `Documents` says."""
        return await self._inner.read(name)

    async def names(self, prefix: str) -> Sequence[str]:
        """As `Documents` says."""
        return await self._inner.names(prefix)

    async def read_many(self, names: Sequence[str]) -> Mapping[str, Document]:
        """As `Documents` says."""
        return await self._inner.read_many(names)

    async def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        """As `Documents` says; then the same here."""
        tags = await self._inner.apply(changes)
        left, self._left = self._left, None
        if await self._keep({change.name: change.content for change in changes}) and left is not None:
            self._left = next((digest_of(c.content) for c in changes if c.name == MANIFEST and c.content), left)
        return tags

    async def _rebuild(self) -> None:
        """Have the folder as the destination's manifest says."""
        self._left = None
        kept = await self._inner.read_many([MARKER, MANIFEST])
        wanted: dict[str, str] = {}
        if MANIFEST in kept:
            try:
                manifest = msgspec.json.decode(kept[MANIFEST].content, type=Manifest)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return  # the mirror says so
            wanted = {name_of(record_id): entry.digest for record_id, entry in manifest.records.items()}
        different = await self._written(lambda: self._folder.different(wanted))
        if different is None:
            return
        for start in range(0, len(different), _BATCH):
            found = await self._inner.read_many(different[start : start + _BATCH])
            if not await self._keep({name: document.content for name, document in found.items()}):
                return
        # The manifest last: who sees it sees what it names.
        last = {name: kept[name].content if name in kept else None for name in (MARKER, MANIFEST)}
        if await self._keep(last):
            self._left = digest_of(kept[MANIFEST].content) if MANIFEST in kept else ""
            if different:
                self._log.info("the local mirror is made good", documents=len(different), mirror=self.name)

    async def _keep(self, contents: Mapping[str, bytes | None]) -> bool:
        def work() -> bool:
            for name, content in contents.items():
                self._folder.write(name, content)
            return True

        return bool(await self._written(work))

    async def _written(self, work: Callable[[], T]) -> T | None:
        try:
            return await asyncio.to_thread(work)
        except OSError as exc:
            self._log.warning(
                "the local mirror cannot be used", mirror=self.name, folder=str(self._folder.path), error=exc.strerror
            )
            return None


class _Folder:
    """The folder. Its calls block, and raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: bytes | None) -> None:
        """Have a document, all of it or as it was; None takes it away."""
        with self._above(name) as (above, last):
            if content is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(last, dir_fd=above)
                return
            beside = f".{secrets.token_hex(8)}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(beside, flags, 0o600, dir_fd=above), "wb") as file:
                    file.write(content)
                os.rename(beside, last, src_dir_fd=above, dst_dir_fd=above)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(beside, dir_fd=above)
                raise

    def digest(self, name: str) -> str:
        """Of the document that is there; empty when there is none that is a file."""
        with self._above(name) as (above, last):
            try:
                descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
            except OSError:
                return ""
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                whole = stat.S_ISREG(status.st_mode) and status.st_size <= MAX_DOCUMENT
                return digest_of(file.read()) if whole else ""

    def different(self, wanted: Mapping[str, str]) -> list[str]:
        """Names of those whose digest is another here; what is not wanted is taken away first."""
        with self._above(f"{RECORDS}x") as (above, _):
            for last in os.listdir(above):
                if f"{RECORDS}{last}" not in wanted and last.endswith((".json", ".new")):
                    os.unlink(last, dir_fd=above)
        return [name for name, digest in wanted.items() if self.digest(name) != digest]

    @contextlib.contextmanager
    def _above(self, name: str) -> Iterator[tuple[int, str]]:
        """The folder that a document is in, open, and what it is called there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        *folders, last = name.split("/")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.ExitStack() as stack:
            above = os.open(self.path, flags)
            stack.callback(os.close, above)
            if os.fstat(above).st_mode & 0o022:
                raise PermissionError(1, "others may write to the folder")
            for each in folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(each, 0o700, dir_fd=above)
                above = os.open(each, flags, dir_fd=above)
                stack.callback(os.close, above)
            yield above, last
