"""Two API servers whose records have to be in a Git repository: what is there outlives them and their database."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.api_server.custody.destinations import git_destination
from tests.api_server.provider_tokens.double import CANARY, Double
from tests.api_server.provider_tokens.pair import GITLAB, SECRET, Pair, furnish, two_servers
from tests.databases.servers import make_database_file
from tests.stack.git_http import git_server

pytestmark = pytest.mark.anyio


def git(repository: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True
    ).stdout  # fmt: skip


async def test_b5_records_at_a_primary_outlive_the_processes_and_their_database(
    tmp_path: Path, issuer: str, double: Double
) -> None:
    """A grant is connected, refreshed, held while the primary hangs, and used by new processes over a database that has
    no records: each refresh token is seen once.
    """
    database = tmp_path / "shared.db"
    make_database_file(database)
    with git_server(tmp_path / "served") as server:
        repository = server.folder / "custody.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
        git(repository, "config", "http.receivepack", "true")
        settings = {
            **git_destination(server, repository.name, tmp_path).settings,
            "HOMEPORT_CUSTODY_PRIMARY": "git",
            "HOMEPORT_CUSTODY_PRIMARY_TIMEOUT": "3s",
            "HOMEPORT_CUSTODY_TIMEOUT": "5s",
        }
        token = ""
        async with two_servers(tmp_path, f"sqlite:///{database}", issuer, double, more=settings) as pair:
            double.expires_in = 0.001
            await furnish(pair, issuer, double)
            token = pair.token
            (name,) = git(repository, "ls-tree", "-r", "--name-only", "main", "auths/").split()
            assert name.startswith("auths/grant.home.usr_")

            double.expires_in, double.delay = 3600, 0.1
            answers = await asyncio.gather(*(pair.hand_out(number) for number in range(20)))
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert list(double.shown.values()) == [1]
            assert '"version": 2' in git(repository, "show", f"main:{name}")

            double.expires_in = 0.001
            await connect_again(pair, double)
            seen = dict(double.shown)
            server.manners.stalled.set()
            answers = await asyncio.gather(*(pair.hand_out(number) for number in range(2)))
            assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "store_unavailable")}
            assert dict(double.shown) == seen
            for process in pair.processes:
                process.signal(signal.SIGKILL)
                process.wait()
        texts = [log.read_text() for log in pair.logs]
        server.manners.stalled.clear()
        lose_records(database)

        double.expires_in = 3600
        async with two_servers(tmp_path, f"sqlite:///{database}", issuer, double, more=settings) as pair:
            pair.token = token
            answers = [await pair.hand_out(number) for number in range(2)]
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert set(double.shown.values()) == {1}
            assert len(double.shown) == len(seen) + 1
        texts += [*(log.read_text() for log in pair.logs), git(repository, "log", "-p", "main")]
        assert any("records are taken from the primary" in text for text in texts)
        assert not any(CANARY in text or SECRET in text for text in texts)


async def connect_again(pair: Pair, double: Double) -> None:
    """In the browser that is signed in."""
    begun = await pair.http.get(f"{pair.urls[0]}{GITLAB}/connect")
    back = double.consent(begun.headers["Location"])
    answer = await pair.http.get(f"{pair.urls[0]}{GITLAB}/callback", params=back)
    assert answer.status_code == 303, answer.text


def lose_records(path: Path) -> None:
    """As a backup of the database from before anything was connected."""
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        for table in ("custody_records", "custody_copies", "custody_mirrors", "refresh_attempts"):
            database.execute(f"DELETE FROM {table}")
        database.execute("UPDATE leases SET expires_at = 0")
