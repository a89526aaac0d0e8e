"""`homeport custody`: what it shows, its JSON and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.api_server.custody.destinations import s3_destination
from tests.api_server.custody.stage import Stage
from tests.homeport.cli.conftest import Run, json_of
from tests.stack.homeport import command
from tests.stack.s3 import s3_server


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """The folder of an installation with three records."""

    async def fill() -> None:
        async with Stage(tmp_path / "data") as made:
            await made.add(1, 2, 3)

    asyncio.run(fill())
    return tmp_path / "data"


@pytest.fixture
def mirror() -> Iterator[dict[str, str]]:
    """Settings of a mirror."""
    with s3_server() as server:
        yield s3_destination(server).settings


def alter(folder: Path, **counts: int) -> None:
    async def work() -> None:
        async with Stage(folder) as made:
            await made.delete(*range(1, 1 + counts.get("delete", 0)))
            if counts.get("lose"):
                await made.lose_everything()

    asyncio.run(work())


def test_without_mirrors_it_shows_the_keys(run: Run, stage: Path) -> None:
    result = run("custody", "status", "--data-dir", stage, "--json")
    assert result.exit_code == 0, result.output
    found = json_of(result.stdout)
    assert found["mirrors"] == []
    assert [(key["state"], key["needed_by"]) for key in found["keys"]] == [("seals", 3)]
    shown = run("custody", "status", "--data-dir", stage)
    assert found["keys"][0]["id"] in shown.stdout
    assert run("custody", "sync", "git", "--data-dir", stage).exit_code == 1
    assert run("custody", "sync", "tape", "--data-dir", stage).exit_code == 2


def test_a_mirror_from_its_first_sync_to_a_restoration(run: Run, stage: Path, mirror: dict[str, str]) -> None:
    def call(*arguments: str, code: int = 0) -> dict[str, object]:
        result = run("custody", *arguments, "--data-dir", stage, "--json", **mirror)
        assert result.exit_code == code, result.output
        for canary in ("canary", mirror["OBJECTSTORE_SECRET_KEY"]):
            assert canary not in result.output
        return json_of(result.stdout or result.stderr)

    def state() -> tuple[object, ...]:
        (found,) = call("status", code=int(expected_stop))["mirrors"]  # type: ignore[misc]
        return found["state"], found["drift"]["changes"], found["drift"]["deletions"], found["drift"]["copies"]

    expected_stop = False
    assert state() == ("new", 3, 0, 0)
    assert call("sync", "s3") == {"mirror": "s3", "sent": 3, "deleted": 0, "taken": 0}
    assert state() == ("in_step", 0, 0, 3)
    assert call("verify")["intact"]

    done = call("rotate-keys")
    assert (done["rewrapped"], done["remaining"]) == (3, 0)
    (old,) = done["retired"]  # type: ignore[misc]
    assert state() == ("behind", 3, 0, 3)
    assert call("rotate-keys", "--forget", old, code=1)["code"] == "key_still_needed"
    call("sync", "s3")
    assert call("rotate-keys", "--forget", old) == {"forgotten": old}
    assert [key["state"] for key in call("status")["keys"]] == ["seals"]  # type: ignore[index, attr-defined]

    alter(stage, delete=2)
    assert call("sync", "s3", code=1)["code"] == "deletion_held"
    assert call("sync", "s3", "--allow-deletions") == {"mirror": "s3", "sent": 0, "deleted": 2, "taken": 0}

    assert call("restore", "s3", code=1)["code"] == "database_not_empty"
    alter(stage, lose=1)
    assert call("sync", "s3", code=1)["code"] == "destination_ahead"
    assert call("restore", "s3") == {"mirror": "s3", "records": 1}
    assert call("verify")["intact"]
    assert call("adopt", "s3", "--yes")["mirror"] == "s3"
    assert call("sync", "s3") == {"mirror": "s3", "sent": 1, "deleted": 0, "taken": 0}


def test_what_somebody_decides_is_in_the_audit_log(run: Run, stage: Path, mirror: dict[str, str]) -> None:
    for arguments in (
        ("sync", "s3", "--allow-deletions"),
        ("adopt", "s3", "--yes"),
        ("rotate-keys", "--prepare"),
        ("rotate-keys",),
        ("status",),
        ("verify",),
    ):
        assert run("custody", *arguments, "--data-dir", stage, **mirror).exit_code == 0
    with closing(sqlite3.connect(stage / "homeport.db")) as database:
        found = database.execute("SELECT action, actor_id, target_id FROM audit_log ORDER BY seq").fetchall()
    assert found == [
        ("custody.mirror.deletions_allowed", "homeport-custody", "s3"),
        ("custody.mirror.adopted", "homeport-custody", "s3"),
        ("custody.keys.prepared", "homeport-custody", "keyring.json"),
        ("custody.keys.rotated", "homeport-custody", "keyring.json"),
    ]
    assert run("audit", "verify", "--data-dir", stage).exit_code == 0
    (stage / "audit-signing-keys.json").unlink()
    before = (stage / "keyring.json").read_bytes()
    assert run("custody", "rotate-keys", "--data-dir", stage).exit_code == 1
    assert (stage / "keyring.json").read_bytes() == before, "what cannot be written down is not done"


def test_a_prepared_key_is_the_one_that_the_next_rotation_takes(run: Run, stage: Path) -> None:
    prepared = json_of(run("custody", "rotate-keys", "--prepare", "--data-dir", stage, "--json").stdout)["prepared"]

    def states() -> dict[str, tuple[str, int]]:
        found = json_of(run("custody", "status", "--data-dir", stage, "--json").stdout)["keys"]
        return {key["id"]: (key["state"], key["needed_by"]) for key in found}

    assert states()[prepared] == ("prepared", 0)
    assert sorted(states().values()) == [("prepared", 0), ("seals", 3)]
    assert json_of(run("custody", "rotate-keys", "--data-dir", stage, "--json").stdout)["key"] == prepared
    assert states()[prepared] == ("seals", 3)
    assert run("custody", "rotate-keys", "--prepare", "--forget", "x", "--data-dir", stage).exit_code == 2


def test_people_are_shown_how_far_it_is(run: Run, stage: Path, mirror: dict[str, str]) -> None:
    result = run("custody", "sync", "s3", "--data-dir", stage, **mirror)
    assert result.exit_code == 0, result.output
    assert "3 of 3 sent to s3" in result.stderr
    assert result.stdout == "3 sent, 0 deleted\n"
    result = run("custody", "verify", "--data-dir", stage, **mirror)
    assert "database (" in result.stdout
    assert (
        f"s3 (s3 {mirror['OBJECTSTORE_ENDPOINT']} {mirror['OBJECTSTORE_BUCKET']}/pre/fix) is intact: 3" in result.stdout
    )
    result = run("custody", "rotate-keys", "--data-dir", stage, **mirror)
    assert "3 of 3 re-wrapped" in result.stderr
    assert "is retired" in result.stdout


def test_a_missing_key_and_a_broken_record_are_told_by_the_exit_code(run: Run, stage: Path) -> None:
    keyring = stage / "keyring.json"
    (old,) = json.loads(keyring.read_text())["keys"]
    keyring.unlink()
    run("keys", "init", "--data-dir", stage)
    result = run("custody", "status", "--data-dir", stage, "--json")
    assert result.exit_code == 1
    assert [key["state"] for key in json_of(result.stdout)["keys"]] == ["seals", "missing"]
    result = run("custody", "verify", "--data-dir", stage)
    assert result.exit_code == 1
    assert result.stdout.count("key_missing") == 3
    assert old["id"] in result.stdout
    assert old["key"] not in result.output


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"GITSTORE_GIT_URL": "http://example.org/x.git"}, "gitstore_git_url must begin with https"),
        ({"OBJECTSTORE_ENDPOINT": "https://s3.example.org"}, "objectstore_bucket"),
        ({"PGSTORE_DSN": "postgresql://u:hunter2@db.example.org/x"}, "sslmode=verify-full"),
        ({"GITSTORE_GIT_URLL": "hunter2"}, "no such setting"),
        ({"HOMEPORT_GITSTORE_GIT_URL": "hunter2"}, "no such setting"),
        ({"PGSTORE_SCHEMA": "Robert'); DROP"}, "pgstore_schema"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_and_not_quoted(
    run: Run, stage: Path, settings: dict[str, str], word: str
) -> None:
    result = run("custody", "status", "--data-dir", stage, **settings)
    assert result.exit_code in (1, 2)
    assert word.lower() in result.stderr.lower()
    assert "hunter2" not in result.output


def test_a_primary_is_named_and_believed(run: Run, stage: Path, mirror: dict[str, str]) -> None:
    primary = {**mirror, "HOMEPORT_CUSTODY_PRIMARY": "s3"}
    assert run("custody", "sync", "s3", "--data-dir", stage, **mirror).exit_code == 0
    found = json_of(run("custody", "status", "--data-dir", stage, "--json", **primary).stdout)
    assert [each["primary"] for each in found["mirrors"]] == [True]
    shown = run("custody", "status", "--data-dir", stage, **primary).stdout
    assert "s3     primary  in_step" in shown
    assert "s3     mirror" in run("custody", "status", "--data-dir", stage, **mirror).stdout
    alter(stage, lose=1)
    assert run("custody", "sync", "s3", "--data-dir", stage, **mirror).exit_code == 1
    taken = run("custody", "sync", "s3", "--data-dir", stage, **primary)
    assert taken.stdout == "3 taken, 0 sent, 0 deleted\n"
    assert "3 of 3 taken from s3" in taken.stderr
    assert run("custody", "verify", "--data-dir", stage, **primary).exit_code == 0
    wrong = run("custody", "status", "--data-dir", stage, HOMEPORT_CUSTODY_PRIMARY="git")
    assert (wrong.exit_code, "gitstore_git_url is needed for custody_primary git" in wrong.output) == (1, True)


def test_what_is_logged_is_not_in_the_answer(stage: Path, mirror: dict[str, str], tmp_path: Path) -> None:
    """As a process: a local mirror that has to be made good says so, and not on standard output."""
    environment = {"PATH": os.environ["PATH"], "OBJECTSTORE_LOCAL_MIRROR": str(tmp_path / "bucket"), **mirror}
    for said in (False, True):
        done = subprocess.run(
            [command(), "custody", "sync", "s3", "--data-dir", stage, "--json"],
            env=environment, capture_output=True, check=True, text=True,
        )  # fmt: skip
        assert json_of(done.stdout)["mirror"] == "s3"
        assert ("made good" in done.stderr) is said
        (tmp_path / "bucket" / "auths" / "ptk_0001.json").unlink()
