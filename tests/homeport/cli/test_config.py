"""`homeport config check`: what is set, by what, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.homeport.cli.conftest import Run, json_of


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "homeport.toml"
    path.write_text(
        'team = "office"\n'
        "[relay]\n"
        'tunnel_port = 4800\nsession_keys_file = "/keys/public.json"\ninternal_key_file = "/keys/internal"\n'
    )
    return path


def test_values_and_their_sources(run: Run, toml: Path) -> None:
    result = run("config", "check", "relay", "up", "--config", toml, "--json", HOMEPORT_TUNNEL_HOST="::1")
    assert result.exit_code == 0, result.output
    settings = json_of(result.stdout)["settings"]
    assert settings["relay"]["tunnel_port"] == {"value": "4800", "source": "file"}
    assert settings["relay"]["tunnel_host"] == {"value": "::1", "source": "environment"}
    assert settings["relay"]["internal_port"] == {"value": "3801", "source": "default"}
    assert settings["up"]["drain_grace"] == {"value": "10s", "source": "default"}


def test_only_what_differs_is_shown_unless_asked(run: Run, toml: Path) -> None:
    short = run("config", "check", "relay", "--config", toml).stdout
    assert "tunnel_port" in short
    assert "tunnel_host" not in short
    assert "tunnel_host" in run("config", "check", "relay", "--config", toml, "--all").stdout


def test_what_a_process_lacks_is_told_and_fails_only_for_a_process_that_is_meant(run: Run, toml: Path) -> None:
    whole = run("config", "check", "--config", toml)
    assert whole.exit_code == 0
    assert "agent: could not start yet; it needs" in whole.stdout
    assert "HOMEPORT_SERVICES" in whole.stdout
    assert json_of(run("config", "check", "--config", toml, "--json").stdout)["missing"].keys() == {"api", "agent"}
    single = run("config", "check", "agent", "--config", toml)
    assert single.exit_code == 1
    assert "HOMEPORT_SERVICES" in single.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("tunel_port = 1\n", "tunel_port (in "),
        ("[relay]\ntunnel_port = 70000\n", "expected an integer from 0 to 65535"),
        ("[relay\n", "is not TOML"),
    ],
)
def test_what_is_wrong_is_1(run: Run, tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    result = run("config", "check", "--config", path)
    assert result.exit_code == 1
    assert says in result.stderr


def test_an_unknown_variable_is_1(run: Run) -> None:
    result = run("config", "check", HOMEPORT_PORT="3721")
    assert result.exit_code == 1
    assert "HOMEPORT_PORT (environment): no such setting" in result.stderr
