"""`homeport provider-tokens` against an API of a few lines."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.homeport.cli.api_server import Answer, Request, api_server, problem
from tests.homeport.cli.conftest import Run, json_of

Ask = Callable[..., Result]

CANARY = "gho_c4nary"

CONNECTION: dict[str, Any] = {
    "provider": "github",
    "team": "home",
    "state": "active",
    "problem": None,
    "account": "ann@example.org",
    "scopes": ["repo", "read:user"],
    "refreshable": True,
    "connected_at": 1e9,
    "refreshed_at": 1e9,
    "access_token_expires_at": None,
    "refresh_token_expires_at": None,
}
PROVIDER = {"id": "github", "title": "GitHub", "kind": "github", "url": "https://github.com", "scopes": ["repo"]}


class Api:
    """One connection."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connection = dict(CONNECTION)
        self.ended: dict[str, Any] = {"revoked": True, "problem": None}

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        path = request.path.removeprefix("/api/")
        match request.method, path:
            case "GET", "providers":
                return Answer(200, {"items": [PROVIDER], "next": None})
            case "GET", "provider-tokens":
                return Answer(200, {"items": [self.connection], "next": None})
            case "GET", "provider-tokens/github":
                return Answer(200, self.connection)
            case "POST", "provider-tokens/github/access-token":
                handed = {"access_token": CANARY, "token_type": "Bearer", "expires_at": None, "scopes": ["repo"]}
                return Answer(200, handed)
            case "DELETE", "provider-tokens/github":
                return Answer(200, self.ended)
        return problem(404, "not_connected", "gitlab is not connected")


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ask(run: Run, api: Api, token_file: Path) -> Ask:
    """Runs a command against it."""

    def call(*arguments: object) -> Result:
        with api_server(api) as url:
            return run("provider-tokens", *arguments, "--api", url, "--token-file", token_file)

    return call


def test_what_is_connected(ask: Ask, api: Api) -> None:
    result = ask("list")
    assert result.exit_code == 0, result.output
    for word in ("github", "active", "ann@example.org", "repo read:user", "never"):
        assert word in result.stdout
    assert json_of(ask("list", "--json").stdout) == {"items": [CONNECTION]}
    assert api.requests[0].query["team"] == "home"


def test_one_that_needs_the_person(ask: Ask, api: Api) -> None:
    api.connection |= {"state": "needs_reconnect", "problem": "invalid_grant"}
    shown = ask("show", "github")
    assert shown.exit_code == 0
    assert "needs reconnect (invalid_grant)" in shown.stdout
    assert json_of(ask("show", "github", "--json").stdout)["state"] == "needs_reconnect"


def test_what_can_be_connected_and_where(ask: Ask) -> None:
    result = ask("providers")
    assert result.exit_code == 0
    assert "/api/provider-tokens/github/connect" in result.stdout


def test_an_access_token_is_all_of_the_standard_output(ask: Ask, api: Api) -> None:
    result = ask("access-token", "github")
    assert (result.exit_code, result.stdout) == (0, CANARY + "\n")
    assert [(each.method, each.path) for each in api.requests] == [("POST", "/api/provider-tokens/github/access-token")]
    assert json_of(ask("access-token", "github", "--json").stdout)["access_token"] == CANARY


def test_an_access_token_in_a_file_of_ones_own(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "access"
    result = ask("access-token", "github", "--output", path)
    assert result.exit_code == 0
    assert path.read_text() == CANARY + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CANARY not in result.output


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"revoked": True, "problem": None}, "has taken back"),
        ({"revoked": False, "problem": "no_revocation"}, "remove it there"),
        ({"revoked": False, "problem": "provider_unavailable"}, "provider_unavailable"),
    ],
)
def test_a_disconnect_says_what_came_of_it(ask: Ask, api: Api, ended: dict[str, Any], words: str) -> None:
    api.ended = ended
    result = ask("disconnect", "github")
    assert result.exit_code == 0
    assert words in result.output
    assert json_of(ask("disconnect", "github", "--json").stdout) == ended


def test_a_refusal_is_exit_code_1_with_its_code(ask: Ask) -> None:
    result = ask("show", "gitlab")
    assert result.exit_code == 1
    assert "not_connected" in result.output
    assert ask("show").exit_code == 2
