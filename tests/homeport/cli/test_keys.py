"""`homeport keys init`: everything that separate processes need, and nothing shown."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.homeport.cli.conftest import Run, json_of


def test_what_it_makes_is_enough_for_relay_and_api(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    result = run("keys", "init", "--data-dir", folder, "--json")
    assert result.exit_code == 0, result.output
    settings = json_of(result.stdout)
    assert run("config", "check", "relay", "api", **settings).exit_code == 0
    modes = {Path(path).name: stat.S_IMODE(Path(path).stat().st_mode) for path in settings.values()}
    assert modes == {
        "internal-key": 0o600,
        "session-keys.json": 0o644,
        "session-signing-keys.json": 0o600,
        "admin-token": 0o600,
        "cookie-keys": 0o600,
        "audit-signing-keys.json": 0o600,
        "api-token-keys": 0o600,
        "keyring.json": 0o600,
        "keys": 0o700,
    }


def test_no_secret_is_shown_and_what_is_there_stays(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = run("keys", "init", "--data-dir", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    second = run("keys", "init", "--data-dir", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert first.stdout == second.stdout
    for name in ("admin-token", "internal-key", "cookie-keys"):
        assert before[name].decode().strip() not in first.output


def test_a_secret_that_others_may_read_is_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    run("keys", "init", "--data-dir", folder)
    (folder / "internal-key").chmod(0o644)
    result = run("keys", "init", "--data-dir", folder)
    assert result.exit_code == 1
    assert "internal-key" in result.stderr
