"""`homeport tokens` against an API of a few lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.homeport.cli.api_server import Answer, Request, api_server, problem
from tests.homeport.cli.conftest import Run, json_of

Ask = Callable[..., Result]

SHOWN: dict[str, Any] = {
    "id": "tok_1",
    "team": "home",
    "name": "ci",
    "description": "",
    "start": "hp_abc123",
    "scopes": ["devices:read"],
    "addresses": [],
    "issuer": "user:usr_1",
    "created_by": "user:usr_1",
    "created_at": 1e9,
    "issued_at": 1e9,
    "expires_at": None,
    "expires_soon": None,
    "previous_expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}
TOKEN = "hp_abc123" + "x" * 43


class Api:
    """Tokens of each state."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        now = time.time()
        self.items = [
            SHOWN,
            SHOWN | {"id": "tok_2", "expires_at": now + 90_000, "expires_soon": 7},
            SHOWN | {"id": "tok_3", "expires_at": now - 5},
            SHOWN | {"id": "tok_4", "revoked_at": now - 5},
            SHOWN | {"id": "tok_5", "expires_at": now + 90 * 86400},
        ]

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.method == "DELETE":
            return Answer(204)
        if request.path.endswith("/missing"):
            return problem(404, "no_such_api_token", "the team has no API token of that id")
        if request.method == "POST":
            rotated = request.path.endswith("/rotate")
            previous = time.time() + 86400 if rotated and request.body.get("overlap") != 0 else None
            made = SHOWN | {"token": TOKEN, "previous_expires_at": previous}
            return Answer(200 if rotated else 201, made)
        if request.path == "/api/api-tokens":
            return Answer(200, {"items": self.items, "next": None})
        return Answer(200, SHOWN)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ask(run: Run, token_file: Path, api: Api) -> Ask:
    def call(*arguments: object) -> Result:
        with api_server(api) as url:
            return run("tokens", *arguments, "--api", url, "--token-file", token_file)

    return call


def test_each_state_is_told_apart(ask: Ask, api: Api) -> None:
    lines = ask("list").stdout.splitlines()
    for line, state in zip(lines[1:], ("holds", "EXPIRES in 1d", "expired", "revoked", "expires in 89d"), strict=True):
        assert state in line
        assert "devices:read" in line
    assert json_of(ask("list", "--json").stdout) == {"items": api.items}


def test_one_is_shown(ask: Ask) -> None:
    shown = ask("show", "tok_1").stdout
    assert "anywhere" in shown
    assert "user:usr_1" in shown
    assert json_of(ask("show", "tok_1", "--json").stdout) == SHOWN
    missing = ask("show", "missing")
    assert missing.exit_code == 1
    assert "no_such_api_token" in missing.stderr


def test_a_token_is_made_and_shown_on_standard_output_alone(ask: Ask, api: Api) -> None:
    made = ask("create", "ci", "--scope", "devices:read", "--scope", "gateway:call:a", "--expires-in", "90d")
    assert made.stdout == TOKEN + "\n"
    assert TOKEN not in made.stderr
    assert api.requests[0].body == {
        "team": "home",
        "name": "ci",
        "scopes": ["devices:read", "gateway:call:a"],
        "expires_in": 90 * 86400,
        "addresses": [],
    }
    assert json_of(ask("create", "ci", "--json").stdout)["token"] == TOKEN
    assert "may do nothing" in ask("create", "ci").stderr


def test_a_token_is_written_to_a_file_that_nobody_else_reads(ask: Ask, api: Api, tmp_path: Path) -> None:
    path = tmp_path / "token"
    made = ask("create", "ci", "--from", "10.0.0.0/8", "--output", path)
    assert path.read_text() == TOKEN + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in made.stdout + made.stderr
    assert api.requests[0].body["addresses"] == ["10.0.0.0/8"]
    told = json_of(ask("create", "ci", "--output", path, "--json").stdout)
    assert told == SHOWN | {"output": str(path)}


@pytest.mark.parametrize("command", [("create", "ci"), ("rotate", "tok_1")])
def test_nothing_is_asked_when_the_answer_could_not_be_kept(
    ask: Ask, api: Api, tmp_path: Path, command: tuple[str, ...]
) -> None:
    refused = ask(*command, "--output", tmp_path / "nowhere" / "token")
    assert refused.exit_code == 2
    assert api.requests == []


def test_a_rotation_says_how_long_the_old_one_holds(ask: Ask, api: Api) -> None:
    rotated = ask("rotate", "tok_1")
    assert rotated.stdout == TOKEN + "\n"
    assert "the old one ends in 23h" in rotated.stderr
    assert api.requests[-1].path == "/api/api-tokens/tok_1/rotate"
    assert api.requests[-1].body == {}
    assert "refused from now on" in ask("rotate", "tok_1", "--overlap", "0", "--expires-in", "1d").stderr
    assert api.requests[-1].body == {"overlap": 0, "expires_in": 86400}


def test_revoking(ask: Ask, api: Api) -> None:
    assert ask("revoke", "tok_1").exit_code == 0
    assert (api.requests[-1].method, api.requests[-1].path) == ("DELETE", "/api/api-tokens/tok_1")
    assert json_of(ask("revoke", "tok_1", "--json").stdout) == {"revoked": "tok_1"}


@pytest.mark.parametrize("arguments", [("create",), ("rotate",), ("create", "ci", "--expires-in", "soon")])
def test_wrong_usage(ask: Ask, arguments: tuple[str, ...]) -> None:
    assert ask(*arguments).exit_code == 2
