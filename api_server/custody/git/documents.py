"""Documents in a branch of a Git repository.

    folder/origin      which destination the clone is of
    folder/seen        the newest commit that was read or pushed: what comes next must descend from it
    folder/repo.git    a bare clone; no work tree, so no file of it is ever a path here
    folder/home        empty
    folder/lock        held while git runs: several processes may share the folder

Invariants: a push is never forced, so the history at the server only grows; what `apply` has returned for is pushed.
The clone holds nothing that is not at the server or with whoever calls: one that is corrupt, half written or left
locked by a killed git is thrown away and fetched anew. `seen` is outside of it, and survives that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from api_server.custody.documents.interfaces import MAX_DOCUMENT, Change, Document
from api_server.custody.errors import (
    DestinationAlteredError,
    DocumentConflictError,
    StoreRefusedError,
    StoreUnavailableError,
)
from api_server.custody.git.command import GitCommand, GitFailedError, Remote
from common.backoff import Backoff
from common.clock import Clock

__all__ = ["GitDocuments"]

T = TypeVar("T")

_ATTEMPTS = 6
"""Of a push that others got before."""

_REPACK_EVERY = 200
"""Pushes; each leaves a few loose objects."""

_SHA = re.compile(r"[0-9a-f]{40}", re.ASCII)
_WORK = "refs/homeport/work"
_NEWEST = "refs/homeport/newest"


class _Blob(NamedTuple):
    sha: str
    size: int


class GitDocuments:
    """A `Documents`.

    Args:
        remote: the repository.
        branch: of it.
        folder: of the clone; made when it is not there.
        clock: wall time, of commits.
        timeout: seconds for each command of git.
    """

    name = "git"
    is_atomic = True

    def __init__(self, remote: Remote, branch: str, folder: Path, clock: Clock, *, timeout: float = 60.0) -> None:
        self._place = remote.place
        self._branch = f"refs/heads/{branch}"
        self._folder = folder.absolute()
        self._clock = clock
        self._timeout = timeout
        self._repository = self._folder / "repo.git"
        self._git = GitCommand(self._repository, self._folder / "home", remote, timeout=timeout)
        self._turn = asyncio.Lock()
        self._head: str | None = None
        self._tree: dict[str, _Blob] = {}
        self._pushes = 0
        self.destination = f"git {remote.place.url}#{branch}"
        """Which branch it is."""

    async def open(self) -> None:
        """Reach the server, as `Documents` says."""
        await self.refresh()

    async def close(self) -> None:
        """Nothing is open between calls."""

    async def forget(self) -> None:
        """Throw the clone away, and what was seen."""
        async with self._locked():
            self._clear()
            self._head, self._tree = None, {}

    async def refresh(self) -> None:
        """Fetch, as `Documents` says."""
        async with self._locked():
            await self._soundly(self._refresh)

    async def read(self, name: str) -> Document | None:
        """A document, as `Documents` says."""
        return (await self.read_many([name])).get(name)

    async def names(self, prefix: str) -> Sequence[str]:
        """Names, as `Documents` says."""
        return sorted(name for name in self._tree if name.startswith(prefix))

    async def read_many(self, names: Sequence[str]) -> Mapping[str, Document]:
        """Documents, as `Documents` says."""
        blobs = {name: self._tree[name] for name in names if name in self._tree}
        if not blobs:
            return {}
        for name, blob in blobs.items():
            if blob.size > MAX_DOCUMENT:
                raise DestinationAlteredError(f"{name} at {self.destination} is larger than any document")

        async def work() -> dict[str, Document]:
            asked = "".join(f"{blob.sha}\n" for blob in blobs.values())
            out = await self._git.local("cat-file", "--batch", data=asked.encode())
            return dict(zip(blobs, _batch(out), strict=True))

        async with self._locked():
            return await self._soundly(work)

    async def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        """One commit and push, as `Documents` says: all of it, or nothing."""
        async with self._locked():
            backoff = Backoff(base=0.1, maximum=2.0)
            for _ in range(_ATTEMPTS):
                for change in changes:
                    blob = self._tree.get(change.name)
                    if (None if blob is None else blob.sha) != change.expected:
                        raise DocumentConflictError(change.name)
                if await self._soundly(lambda: self._push(changes)):
                    return ["" if each.content is None else _sha_of(each.content) for each in changes]
                await asyncio.sleep(backoff.next_delay())
                await self._soundly(self._refresh)
        raise StoreUnavailableError(f"others push to {self.destination} without a pause")

    # Within the lock.

    async def _push(self, changes: Sequence[Change]) -> bool:
        """Commit on top of the head and push; False when somebody else was faster."""
        commit = await self._commit(changes)
        try:
            await self._git.remote("push", "--porcelain", "--no-verify", self._place.url, f"{commit}:{self._branch}")
        except GitFailedError as exc:
            if not exc.is_race:
                raise
            return False
        self._write("seen", commit)
        self._head = commit
        for change in changes:
            if change.content is None:
                self._tree.pop(change.name, None)
            else:
                self._tree[change.name] = _Blob(_sha_of(change.content), len(change.content))
        self._pushes += 1
        if self._pushes % _REPACK_EVERY == 0:
            with contextlib.suppress(GitFailedError, StoreUnavailableError):
                await self._git.local("repack", "-d", "-q")
        return True

    async def _commit(self, changes: Sequence[Change]) -> str:
        message = f"custody: {len(changes)} document{'' if len(changes) == 1 else 's'}\n".encode()
        parts = [
            f"commit {_WORK}\ncommitter Homeport <custody@homeport.invalid> {int(self._clock.wall())} +0000\n".encode(),
            b"data %d\n%s" % (len(message), message),
        ]
        if self._head is not None:
            parts.append(f"from {self._head}\n".encode())
        for change in changes:
            if change.content is None:
                parts.append(f"D {change.name}\n".encode())
            else:
                parts.append(f"M 100644 inline {change.name}\n".encode())
                parts.append(b"data %d\n%s\n" % (len(change.content), change.content))
        # --force is about that ref of the clone, which may be of an attempt before; pushes are never forced.
        await self._git.local("fast-import", "--quiet", "--force", "--done", data=b"".join([*parts, b"done\n"]))
        return (await self._git.local("rev-parse", "--verify", "--quiet", _WORK)).decode().strip()

    async def _refresh(self) -> None:
        self._prepare()
        if not (self._repository / "HEAD").exists():
            await self._git.local("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
        listed = (await self._git.remote("ls-remote", "--refs", self._place.url, self._branch)).decode()
        head = listed.partition("\t")[0] or None
        seen = self._read("seen")
        if head is None:
            if seen is not None:
                raise DestinationAlteredError(
                    f"the branch at {self.destination} is gone, which held commit {seen} before"
                )
            self._head, self._tree = None, {}
            return
        if _SHA.fullmatch(head) is None:
            raise DestinationAlteredError(f"the branch at {self.destination} is of another kind of repository")
        if head == self._head:
            return
        await self._git.remote(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", self._place.url,
            f"+{self._branch}:{_NEWEST}",
        )  # fmt: skip
        # What was fetched may be newer than what was listed.
        head = (await self._git.local("rev-parse", "--verify", "--quiet", _NEWEST)).decode().strip()
        if seen is not None and not await self._descends(head, seen):
            raise DestinationAlteredError(
                f"the history at {self.destination} was rewritten: it does not go on from commit {seen}"
            )
        self._tree = self._listed(await self._git.local("ls-tree", "-r", "-z", "-l", "--full-tree", head))
        self._head = head
        self._write("seen", head)

    async def _descends(self, head: str, seen: str) -> bool:
        """Whether `seen` is in the history of `head`, which is here whole."""
        if head == seen:
            return True
        try:
            await self._git.local("merge-base", "--is-ancestor", seen, head)
        except GitFailedError as exc:
            if exc.code == 1 or "not a valid" in exc.said:  # no ancestor; no commit that is known at all
                return False
            raise
        return True

    def _listed(self, out: bytes) -> dict[str, _Blob]:
        found = {}
        for line in out.split(b"\0")[:-1]:
            meta, _, path = line.partition(b"\t")
            mode, kind, sha, size = meta.decode().split()
            name = path.decode("utf-8", "replace")
            if kind != "blob" or mode not in ("100644", "100755"):
                # 120000 is a symbolic link, 160000 another repository: nothing of ours.
                raise DestinationAlteredError(
                    f"{self.destination} holds a link, which is nothing of ours: {name[:80]!r}"
                )
            found[name] = _Blob(sha, int(size))
        return found

    async def _soundly(self, work: Callable[[], Awaitable[T]]) -> T:
        """`work`, once more in a fresh clone when git fails for what may be wrong with this one."""
        try:
            return await work()
        except GitFailedError:
            await self._rebuild()
        try:
            return await work()
        except GitFailedError as exc:
            raise StoreRefusedError(f"`git {exc.command}` fails on a fresh clone of {self.destination}") from None

    async def _rebuild(self) -> None:
        seen = self._read("seen")
        self._clear()
        self._prepare()
        if seen is not None:
            self._write("seen", seen)
        self._head = None
        try:
            await self._refresh()
        except GitFailedError as exc:
            raise StoreRefusedError(f"`git {exc.command}` fails on a fresh clone of {self.destination}") from None

    # The folder. Small files, at the start and after a push: the calls block for a moment.

    def _prepare(self) -> None:
        if self._read("origin") not in (None, self.destination):
            self._clear()
        (self._folder / "home").mkdir(mode=0o700, exist_ok=True)
        if self._read("origin") is None:
            self._write("origin", self.destination)

    def _clear(self) -> None:
        if self._repository.is_symlink():
            self._repository.unlink()
        shutil.rmtree(self._repository, ignore_errors=True)
        for name in ("seen", "origin"):
            (self._folder / name).unlink(missing_ok=True)

    def _read(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str) -> None:
        beside = self._folder / f".{name}.new"
        with beside.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / name)

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """One user of the folder at a time, of this process and others."""
        async with self._turn:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._folder.is_symlink() or self._folder.stat().st_mode & 0o022:
                    raise StoreRefusedError(f"{self._folder} is a link, or others may write to it")
                lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as exc:
                raise StoreUnavailableError(f"{self._folder} cannot be used: {exc.strerror}") from exc
            try:
                await self._flock(lock)
                try:
                    yield
                except OSError as exc:
                    raise StoreUnavailableError(f"{self._folder} cannot be used: {exc.strerror}") from exc
            finally:
                os.close(lock)

    async def _flock(self, lock: int) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        await asyncio.sleep(0.05)
                    else:
                        return
        except TimeoutError:
            raise StoreUnavailableError(f"another process has {self._folder} for long") from None


def _sha_of(content: bytes) -> str:
    """Git's name of a file with that content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _batch(out: bytes) -> list[Document]:
    """The answers of `git cat-file --batch`: a line with name, kind and size, the content, a line feed.

    Raises:
        GitFailedError: an object is missing.
    """
    found = []
    while out:
        line, _, rest = out.partition(b"\n")
        parts = line.decode().split()
        if len(parts) != 3 or parts[1] != "blob":
            raise GitFailedError("cat-file", 0, "missing")
        size = int(parts[2])
        found.append(Document(rest[:size], parts[0]))
        out = rest[size + 1 :]
    return found
