"""The folder that holds what a bucket holds."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_server.custody.documents.interfaces import name_of
from api_server.custody.mirror.local_copy import LocallyCopied
from api_server.custody.mirror.mirror import Mirror, Synced
from api_server.custody.mirror.statements import MANIFEST, MARKER
from tests.api_server.custody.destinations import Destination, s3_destination
from tests.api_server.custody.stage import Stage
from tests.stack.s3 import S3Server, s3_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def destination(server: S3Server) -> Iterator[Destination]:
    yield s3_destination(server)
    server.manners.fails_from = None


class Copied:
    """A mirror with such a folder."""

    def __init__(self, stage: Stage, destination: Destination, folder: Path) -> None:
        self.folder = folder
        self._stage = stage
        self._destination = destination
        self.mirror = self.anew()

    def anew(self) -> Mirror:
        """That of a process that starts now."""
        return self._stage.mirror(LocallyCopied(self._destination.documents(), self.folder), batch=2)

    def here(self) -> dict[str, bytes]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    async def is_whole(self) -> bool:
        there = {name: document.content for name, document in (await self._destination.everything()).items()}
        return self.here() == there


@pytest.fixture
def copied(stage: Stage, destination: Destination, tmp_path: Path) -> Copied:
    return Copied(stage, destination, tmp_path / "copy")


async def test_it_holds_what_the_bucket_holds(stage: Stage, copied: Copied) -> None:
    await stage.add(1, 2, 3, 4, 5)
    assert await copied.mirror.sync() == Synced(5, 0)
    assert await copied.is_whole()
    await stage.change(2)
    await stage.delete(3)
    await copied.mirror.sync()
    assert await copied.is_whole()
    assert set(copied.here()) == {MARKER, MANIFEST, *(name_of(f"ptk_000{number}") for number in (1, 2, 4, 5))}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (copied.folder, *copied.folder.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


async def test_what_is_missing_or_altered_there_is_made_good_and_never_believed(stage: Stage, copied: Copied) -> None:
    await stage.add(1, 2, 3)
    await copied.mirror.sync()
    one, two, manifest = (copied.folder / name for name in (name_of("ptk_0001"), name_of("ptk_0002"), MANIFEST))
    one.write_bytes(two.read_bytes())
    two.unlink()
    (copied.folder / name_of("planted")).write_bytes(b"{}")
    assert await copied.anew().sync() == Synced(0, 0)
    assert await copied.is_whole()
    manifest.write_bytes(b"{}")
    one.unlink()
    assert await copied.mirror.sync() == Synced(0, 0)  # in a process that runs on
    assert await copied.is_whole()
    for path in sorted(copied.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    copied.folder.rmdir()
    await stage.change(1)
    assert await copied.mirror.sync() == Synced(1, 0)
    assert await copied.is_whole()


async def test_nothing_is_written_before_the_bucket_has_it(server: S3Server, stage: Stage, copied: Copied) -> None:
    await stage.add(1)
    await copied.mirror.sync()
    before = copied.here()
    await stage.change(1)
    server.manners.fails_from = server.manners.writes
    with pytest.raises(Exception, match="cannot be used"):
        await copied.mirror.sync()
    assert copied.here() == before


@pytest.mark.parametrize("what", ["the folder", "a folder in it", "a file in it"])
async def test_c6_no_symbolic_link_is_followed(stage: Stage, copied: Copied, tmp_path: Path, what: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim = elsewhere / "victim"
    victim.write_text("as it was")
    if what == "the folder":
        copied.folder.symlink_to(elsewhere)
    else:
        copied.folder.mkdir(mode=0o700)
        if what == "a folder in it":
            (copied.folder / "auths").symlink_to(elsewhere)
        else:
            (copied.folder / "auths").mkdir(mode=0o700)
            (copied.folder / name_of("ptk_0001")).symlink_to(victim)
    await stage.add(1)
    assert await copied.mirror.sync() == Synced(1, 0), "it is at the bucket all the same"
    assert [path.name for path in elsewhere.iterdir()] == ["victim"]
    assert victim.read_text() == "as it was"
    assert await copied.is_whole() is (what == "a file in it")


async def test_a_folder_that_others_may_write_to_gets_nothing(stage: Stage, copied: Copied) -> None:
    copied.folder.mkdir()
    copied.folder.chmod(0o777)
    await stage.add(1)
    assert await copied.mirror.sync() == Synced(1, 0)
    assert copied.here() == {}
    copied.folder.chmod(0o700)
    await copied.mirror.sync()
    assert await copied.is_whole()
