"""Git as a store of documents, against `git http-backend` over HTTP."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import uvloop

from api_server.custody.destinations import place_of
from api_server.custody.documents.interfaces import Change, name_of
from api_server.custody.errors import (
    DestinationAlteredError,
    DestinationSettingsError,
    DocumentConflictError,
    StoreRefusedError,
    StoreUnavailableError,
)
from api_server.custody.git.command import Remote
from api_server.custody.git.documents import GitDocuments
from api_server.custody.records import document_of
from common.clock import SystemClock
from common.secret import Secret
from tests.api_server.custody.samples import CANARY, changed, record
from tests.stack.git_http import GitServer, git_server

pytestmark = pytest.mark.anyio

TOKEN = "ghp_canary-of-git"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git")) as running:
        yield running


@pytest.fixture
def repository(server: GitServer, tmp_path: Path) -> Iterator[Path]:
    """An empty repository at the server, which asks for the token."""
    path = server.folder / f"{tmp_path.name}.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    git(path, "config", "http.receivepack", "true")
    server.manners.password = TOKEN
    server.manners.authorizations.clear()
    yield path
    server.manners.password = server.manners.redirect_to = None
    server.manners.stalled.clear()
    shutil.rmtree(path, ignore_errors=True)


def git(path: Path, *arguments: str) -> str:
    """Git on the server's own side."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": os.devnull}
    result = subprocess.run(
        ["git", "-C", str(path), "-c", "user.name=x", "-c", "user.email=x@x", *arguments],
        env=environment, capture_output=True, check=True, text=True,
    )  # fmt: skip
    return result.stdout.strip()


def client(
    server: GitServer, repository: Path, folder: Path, *, token: str | None = TOKEN, timeout: float = 20
) -> GitDocuments:
    place = place_of(f"http://{server.address}/{repository.name}", "gitstore_git_url")
    remote = Remote(place, "somebody", None if token is None else Secret(token))
    return GitDocuments(remote, "main", folder, SystemClock(), timeout=timeout)


@pytest.fixture
def documents(server: GitServer, repository: Path, tmp_path: Path) -> GitDocuments:
    return client(server, repository, tmp_path / "clone")


async def put(documents: GitDocuments, name: str, content: str) -> str:
    """Write a document whatever was there."""
    before = await documents.read(name)
    (tag,) = await documents.apply([Change(name, content.encode(), None if before is None else before.tag)])
    return tag


async def test_a_batch_is_one_commit_and_history_is_kept(documents: GitDocuments, repository: Path) -> None:
    await documents.open()
    tags = await documents.apply([Change(f"auths/{number}.json", b"{}", None) for number in range(50)])
    await documents.apply([Change("auths/7.json", None, tags[7]), Change("auths/8.json", b"[]", tags[8])])
    assert git(repository, "rev-list", "--count", "main") == "2"
    assert git(repository, "log", "--format=%an %s", "main") == (
        "Homeport custody: 2 documents\nHomeport custody: 50 documents"
    )
    assert git(repository, "show", "main~1:auths/7.json") == "{}"
    assert git(repository, "fsck", "--strict") == ""


async def test_c3_nothing_of_a_batch_is_done_when_one_document_is_another_by_now(documents: GitDocuments) -> None:
    await documents.open()
    await put(documents, "auths/a.json", "1")
    with pytest.raises(DocumentConflictError, match=r"auths/a\.json"):
        await documents.apply([Change("auths/b.json", b"2", None), Change("auths/a.json", b"3", "0" * 40)])
    await documents.refresh()
    assert await documents.names("auths/") == ["auths/a.json"]


async def test_c3_two_writers_lose_nothing_and_never_force(server: GitServer, repository: Path, tmp_path: Path) -> None:
    writers = [client(server, repository, tmp_path / f"writer-{number}") for number in range(2)]

    async def write(number: int) -> None:
        await writers[number].open()
        for turn in range(4):
            await writers[number].apply([Change(f"auths/{number}-{turn}.json", b"{}", None)])

    await asyncio.gather(write(0), write(1))
    await writers[0].refresh()
    assert len(await writers[0].names("auths/")) == 8
    assert git(repository, "rev-list", "--count", "--max-parents=1", "main") == "8"


async def test_a_rewritten_history_is_noticed_and_nothing_is_pushed_onto_it(
    documents: GitDocuments, repository: Path, server: GitServer, tmp_path: Path
) -> None:
    await documents.open()
    await put(documents, "auths/a.json", "1")
    await put(documents, "auths/a.json", "2")
    tree = git(repository, "rev-parse", "main^{tree}")
    git(repository, "update-ref", "refs/heads/main", git(repository, "commit-tree", "-m", "squashed", tree))
    for reader in (documents, client(server, repository, tmp_path / "clone")):  # and after a restart
        with pytest.raises(DestinationAlteredError, match="rewritten"):
            await reader.refresh()
    shutil.rmtree(tmp_path / "clone" / "repo.git")  # and when the clone is gone
    with pytest.raises(DestinationAlteredError, match="rewritten"):
        await client(server, repository, tmp_path / "clone").refresh()
    assert git(repository, "rev-list", "--count", "main") == "1"
    await documents.forget()
    await documents.refresh()
    assert await documents.names("auths/") == ["auths/a.json"]


async def test_a_branch_that_is_gone_is_noticed(documents: GitDocuments, repository: Path) -> None:
    await documents.open()
    await put(documents, "auths/a.json", "1")
    git(repository, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(DestinationAlteredError, match="gone"):
        await documents.refresh()


def test_commands_that_end_at_once_do_so_on_the_loop_of_the_server_too(
    server: GitServer, repository: Path, tmp_path: Path
) -> None:
    """uvloop fails to write to a process that has ended; git that fails ends before it has read anything."""

    async def course() -> None:
        documents = client(server, repository, tmp_path / "clone")
        await documents.open()
        await put(documents, "auths/a.json", "1")
        (tmp_path / "clone" / "repo.git" / "HEAD").unlink()  # so that commands fail, and the clone is rebuilt
        for number in range(3):
            await put(documents, "auths/a.json", str(number))

    uvloop.run(course())


async def test_an_empty_repository_is_empty(documents: GitDocuments) -> None:
    await documents.open()
    assert await documents.names("") == []
    assert await documents.read("auths/a.json") is None


async def test_a_push_that_the_server_refuses_is_told(documents: GitDocuments, repository: Path) -> None:
    await documents.open()
    await put(documents, "auths/a.json", "1")
    hook = repository / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no secrets here, hunter2 >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(StoreRefusedError, match="refuses `git push`") as caught:
        await put(documents, "auths/a.json", "2")
    assert "hunter2" not in caught.value.detail
    await documents.refresh()
    found = await documents.read("auths/a.json")
    assert found is not None
    assert found.content == b"1"
    hook.unlink()
    await put(documents, "auths/a.json", "2")


async def test_a_wrong_token_is_refused_without_a_prompt(server: GitServer, repository: Path, tmp_path: Path) -> None:
    for token in ("wrong", None):
        with pytest.raises(StoreRefusedError, match="refuses `git ls-remote`") as caught:
            await client(server, repository, tmp_path / "other", token=token).open()
        assert str(token) not in caught.value.detail or token is None


async def test_a_server_that_hangs_is_given_up_and_nothing_is_left_running(
    server: GitServer, repository: Path, tmp_path: Path
) -> None:
    documents = client(server, repository, tmp_path / "clone", timeout=0.5)
    server.manners.stalled.set()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(StoreUnavailableError, match=r"longer than 0\.5 s"):
        await documents.open()
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
    ]
    assert left == []


async def test_who_goes_away_meanwhile_leaves_nothing_running(
    server: GitServer, repository: Path, tmp_path: Path
) -> None:
    documents = client(server, repository, tmp_path / "clone")
    server.manners.stalled.set()
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    def started() -> list[psutil.Process]:
        running = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        return [child for child in running if child.status() != psutil.STATUS_ZOMBIE]

    opening = asyncio.create_task(documents.open())
    while not any("remote-http" in " ".join(child.cmdline()) for child in started()):
        await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert started() == []


async def test_a_server_that_is_away_is_unavailable(repository: Path, tmp_path: Path) -> None:
    place = place_of("http://127.0.0.1:1/x.git", "gitstore_git_url")
    documents = GitDocuments(Remote(place, "u", None), "main", tmp_path / "clone", SystemClock(), timeout=20)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await documents.open()


def _truncate_pack(clone: Path) -> None:
    objects = [path for path in (clone / "objects").rglob("*") if path.is_file()]
    assert objects
    for path in objects:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _lose_objects(clone: Path) -> None:
    shutil.rmtree(clone / "objects")
    (clone / "objects").mkdir()


def _lose_head(clone: Path) -> None:
    (clone / "HEAD").unlink()


def _garbage_refs(clone: Path) -> None:
    for path in (clone / "refs").rglob("*"):
        if path.is_file():
            path.write_text("garbage\n")


def _lock_refs(clone: Path) -> None:
    """As a git that was killed leaves them."""
    for name in ("newest.lock", "work.lock"):
        (clone / "refs" / "homeport").mkdir(parents=True, exist_ok=True)
        (clone / "refs" / "homeport" / name).touch()


@pytest.mark.parametrize("damage", [_truncate_pack, _lose_objects, _lose_head, _garbage_refs, _lock_refs])
async def test_a_damaged_clone_is_rebuilt_and_nothing_is_lost(
    server: GitServer, repository: Path, tmp_path: Path, damage: object
) -> None:
    documents = client(server, repository, tmp_path / "clone")
    await documents.open()
    await put(documents, "auths/a.json", "1")
    other = client(server, repository, tmp_path / "other")
    await other.open()
    await put(other, "auths/b.json", "2")
    damage(tmp_path / "clone" / "repo.git")  # type: ignore[operator]
    for reader in (documents, client(server, repository, tmp_path / "clone")):
        await reader.refresh()
        found = await reader.read_many(["auths/a.json", "auths/b.json"])
        assert {name: document.content for name, document in found.items()} == {
            "auths/a.json": b"1",
            "auths/b.json": b"2",
        }
        await put(reader, "auths/a.json", "1")


async def test_c6_a_link_in_the_repository_is_refused(
    documents: GitDocuments, repository: Path, tmp_path: Path
) -> None:
    await documents.open()
    await put(documents, "auths/a.json", "1")
    work = tmp_path / "work"
    git(tmp_path, "clone", "-q", str(repository), str(work))
    (work / "auths" / "b.json").symlink_to("/etc/passwd")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "x")
    git(work, "push", "-q", "origin", "main")
    with pytest.raises(DestinationAlteredError, match="holds a link"):
        await documents.refresh()


async def test_c5_the_token_goes_to_its_host_alone(
    server: GitServer, repository: Path, tmp_path: Path, documents: GitDocuments
) -> None:
    await documents.open()
    assert server.manners.authorizations
    with git_server(tmp_path / "elsewhere") as elsewhere:
        server.manners.redirect_to = elsewhere.address
        with pytest.raises(StoreRefusedError):
            await documents.refresh()
        assert elsewhere.manners.authorizations == []


async def test_c8_the_token_is_in_no_argument_file_or_commit(
    server: GitServer, repository: Path, tmp_path: Path, documents: GitDocuments
) -> None:
    await documents.open()
    seen: list[str] = []

    async def watch() -> None:
        while True:
            for child in psutil.Process().children(recursive=True):
                try:
                    seen.append(" ".join(child.cmdline()))
                except psutil.Error:
                    continue
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    await documents.open()
    one = record(1)
    (tag,) = await documents.apply([Change(name_of(one.id), document_of(one), None)])
    await documents.apply([Change(name_of(one.id), document_of(changed(one)), tag)])
    watching.cancel()
    assert any("push" in line for line in seen)
    texts = [*seen, git(repository, "log", "--format=%B%an%ae%cn%ce", "-p", "--all")]
    for folder in (repository, tmp_path / "clone"):
        texts += [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    for canary in (TOKEN, CANARY):
        assert not [text[:200] for text in texts if canary in text]


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:a/b",
        "ssh://git@host/a",
        "file:///etc",
        "ext::sh -c id",
        "http://example.org/a.git",
        "http://localhost.example.org/a",
        "https://user:hunter2@example.org/a",
        "https://example.org/a?x=hunter2",
        "https://example.org/a#hunter2",
        "https://example.org/../a",
        "https://example.org/a b",
        "https://ex\u00e4mple.org/a",
        "https://example.org:99999/a",
        "https://[::1/a",
        "https://-example.org/a",
        "--upload-pack=hunter2",
        "",
    ],
)
def test_c5_a_url_that_is_more_than_a_place_is_refused(url: str) -> None:
    with pytest.raises(DestinationSettingsError, match="gitstore_git_url") as caught:
        place_of(url, "gitstore_git_url")
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize(
    ("url", "spelt"),
    [
        ("HTTPS://GitHub.com:443/a/b.git", "https://github.com/a/b.git"),
        ("https://github.com./a/b.git/", "https://github.com/a/b.git"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ("https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
    ],
)
def test_c5_a_place_has_one_spelling(url: str, spelt: str) -> None:
    assert place_of(url, "gitstore_git_url").url == spelt


async def test_a_folder_that_others_may_write_to_is_refused(
    server: GitServer, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone").chmod(0o777)
    with pytest.raises(StoreRefusedError, match="others may write"):
        await client(server, repository, tmp_path / "clone").open()
