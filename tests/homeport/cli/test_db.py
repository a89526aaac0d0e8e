"""`homeport db` and `homeport audit verify`, on databases that are there, empty, altered and missing."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from api_server.audit.checkpoints import Checkpoints
from api_server.audit.keys import CheckpointSigner
from api_server.audit.log import ChainedAuditLog
from api_server.audit.records import SYSTEM, AuditEntry
from api_server.db.database import Database
from api_server.db.revisions import head, known
from common.clock import SystemClock
from tests.databases.fixtures import FreshDatabase
from tests.homeport.cli.conftest import Run, json_of


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """A data directory with keys and a database."""
    folder = tmp_path / "data"
    assert run("keys", "init", "--data-dir", folder).exit_code == 0
    assert run("db", "upgrade", "--data-dir", folder).exit_code == 0
    return folder


def write(folder: Path, count: int) -> None:
    """Write to the audit log."""
    log = ChainedAuditLog(Checkpoints(CheckpointSigner(folder / "audit-signing-keys.json")), SystemClock())
    entry = AuditEntry(actor=SYSTEM, team=None, action="test.done", target_kind="test", target_id="1")

    async def work() -> None:
        async with Database.connect(f"sqlite:///{folder}/homeport.db") as database:
            for _ in range(count):
                await database.write(lambda tx: log.record(tx, entry))

    asyncio.run(work())


def test_upgrade_downgrade_and_what_there_is(run: Run, tmp_path: Path) -> None:
    where = ("--data-dir", tmp_path, "--json")
    assert json_of(run("db", "upgrade", "--to", known()[0], *where).stdout) == {"before": None, "after": known()[0]}
    assert json_of(run("db", "current", *where).stdout) == {"schema": known()[0], "needed": head()}
    assert json_of(run("db", "upgrade", *where).stdout) == {"before": known()[0], "after": head()}
    assert json_of(run("db", "upgrade", *where).stdout) == {"before": head(), "after": head()}
    assert run("db", "downgrade", "base", *where).exit_code == 1, "nobody said yes"
    assert json_of(run("db", "current", *where).stdout)["schema"] == head()
    assert json_of(run("db", "downgrade", "base", "--yes", *where).stdout) == {"before": head(), "after": None}


def test_the_url_may_come_from_the_environment_or_a_file(
    run: Run, tmp_path: Path, database_url: str, fresh_database: FreshDatabase
) -> None:
    file = tmp_path / "url"
    file.touch(mode=0o600)
    file.write_text(database_url)
    assert json_of(run("db", "current", "--database-url-file", file, "--json").stdout)["schema"] == head()
    result = run("db", "current", "--json", HOMEPORT_DATABASE_URL=database_url, HOMEPORT_DATA_DIR=str(tmp_path))
    assert json_of(result.stdout)["schema"] == head()


def test_a_password_is_never_shown(run: Run, tmp_path: Path) -> None:
    for url in ("postgresql://u:hunter2@127.0.0.1:1/d", "mysql://u:hunter2@127.0.0.1:1/d", "oracle://u:hunter2@h/d"):
        result = run("db", "upgrade", HOMEPORT_DATABASE_URL=url)
        assert result.exit_code == 1
        assert "hunter2" not in result.output


def test_a_database_that_is_not_there_is_not_made_by_looking(run: Run, tmp_path: Path) -> None:
    for command in (("db", "current"), ("db", "downgrade", "base", "--yes"), ("audit", "verify")):
        run("keys", "init", "--data-dir", tmp_path)
        result = run(*command, "--data-dir", tmp_path)
        assert result.exit_code == 1
        assert "No such file" in result.stderr
    assert not (tmp_path / "homeport.db").exists()


def test_an_unknown_schema_is_refused(run: Run, folder: Path) -> None:
    result = run("db", "upgrade", "--to", "nonsense", "--data-dir", folder)
    assert result.exit_code == 1
    assert "there is no schema nonsense" in result.stderr


def test_an_intact_log_and_its_head(run: Run, folder: Path) -> None:
    write(folder, 3)
    shown = run("audit", "verify", "--data-dir", folder)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("the audit log is intact: 3 rows")
    noted = shown.stdout.splitlines()[-1].removeprefix("head ")
    write(folder, 100)
    report = json_of(run("audit", "verify", "--data-dir", folder, "--head", noted, "--json").stdout)
    assert (report["intact"], report["rows"], report["checkpoints"], report["checkpoint"]) == (True, 103, 1, 100)


def test_an_altered_log_is_said_and_the_exit_code_is_1(run: Run, folder: Path) -> None:
    write(folder, 3)
    noted = run("audit", "verify", "--data-dir", folder).stdout.splitlines()[-1].removeprefix("head ")
    with sqlite3.connect(folder / "homeport.db") as connection:
        connection.execute("UPDATE audit_log SET actor_name = 'Nobody' WHERE seq = 2")
    connection.close()
    result = run("audit", "verify", "--data-dir", folder, "--json")
    assert result.exit_code == 1
    assert [(finding["problem"], finding["seq"]) for finding in json_of(result.stdout)["findings"]] == [("changed", 2)]
    with sqlite3.connect(folder / "homeport.db") as connection:
        connection.execute("DELETE FROM audit_log")
        connection.execute("UPDATE audit_head SET seq = 0, hash = ?", ["0" * 64])
    connection.close()
    shown = run("audit", "verify", "--data-dir", folder, "--head", noted)
    assert shown.exit_code == 1
    assert "not_as_expected" in shown.stdout
    assert "ALTERED" in shown.stdout


@pytest.mark.parametrize("head", ["", "1", "1:x", "0:" + "0" * 64, "1:" + "g" * 64])
def test_what_is_no_head_is_wrong_usage(run: Run, folder: Path, head: str) -> None:
    assert run("audit", "verify", "--data-dir", folder, "--head", head).exit_code == 2
