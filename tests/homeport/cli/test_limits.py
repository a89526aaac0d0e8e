"""`homeport limits` against an API of a few lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.homeport.cli.api_server import Answer, Request, api_server, problem
from tests.homeport.cli.conftest import Run, json_of

Ask = Callable[..., Result]

CLOSED = {"quota": 5, "window": 1, "when_away": "closed"}


class Api:
    """Limits of a token, a team and the installation."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.own: dict[str, Any] = {"requests": CLOSED, "streams": 50, "max_body_bytes": None}
        self.defaults: dict[str, Any] = {"token": {"streams": 9}, "team": {"opens_per_second": 3}}

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.path.endswith("/missing"):
            return problem(404, "no_such_subject", "the team has none of that id")
        if request.method == "PUT":
            return Answer(200, request.body)
        if request.path == "/api/limits":
            return Answer(200, {"items": [{"kind": "token", "subject": "tok_1", "limits": self.own}], "next": None})
        if request.path == "/api/limits/defaults":
            return Answer(200, self.defaults)
        return Answer(200, {"own": self.own, "effective": self.own})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ask(run: Run, token_file: Path, api: Api) -> Ask:
    def call(*arguments: object) -> Result:
        with api_server(api) as url:
            return run("limits", *arguments, "--api", url, "--token-file", token_file)

    return call


def test_a_list_for_people(ask: Ask) -> None:
    shown = ask("list").output
    assert "token/tok_1  requests 5 in 1s, closed while the shared counter is away, streams 50" in shown


def test_what_is_not_named_stays_and_a_rate_keeps_what_holds_without_a_counter(ask: Ask, api: Api) -> None:
    result = ask("set", "token/tok_1", "--requests", "600/1m", "--max-body-bytes", "10MiB")
    assert result.exit_code == 0, result.output
    put = api.requests[-1]
    assert (put.method, put.path, put.query) == ("PUT", "/api/limits/token/tok_1", {"team": "home"})
    rate = {"quota": 600, "window": 60, "when_away": "closed"}
    assert put.body == {"requests": rate, "streams": 50, "max_body_bytes": 10 << 20}


def test_none_lifts_one(ask: Ask, api: Api) -> None:
    assert ask("set", "route/prices", "--streams", "none", "--requests", "none").exit_code == 0
    assert api.requests[-1].path == "/api/limits/route/prices"
    assert api.requests[-1].body == {}


def test_the_limits_of_a_team_are_the_installations_affair(ask: Ask, api: Api) -> None:
    assert ask("set", "team/home", "--bytes-per-second", "1MiB").exit_code == 0
    assert {(each.path, *each.query) for each in api.requests} == {("/api/limits/teams/home",)}


def test_one_default_leaves_the_others_as_they_are(ask: Ask, api: Api) -> None:
    result = ask("set", "default/token", "--api-requests", "5/1s", "--json")
    assert json_of(result.stdout) == {"streams": 9, "api_requests": {"quota": 5, "window": 1}}
    assert api.requests[-1].body == {
        "token": {"streams": 9, "api_requests": {"quota": 5, "window": 1}},
        "team": {"opens_per_second": 3},
    }


def test_show(ask: Ask) -> None:
    assert json_of(ask("show", "default/team", "--json").stdout) == {"opens_per_second": 3}
    assert "opens per second  3" in ask("show", "default/team").output


def test_a_refusal_is_told_with_its_code(ask: Ask) -> None:
    result = ask("show", "token/missing")
    assert result.exit_code == 1
    assert "[no_such_subject]" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "tok_1"),
        ("show", "device/cam"),
        ("show", "default/nothing"),
        ("set", "token/tok_1"),
        ("set", "token/tok_1", "--requests", "600"),
        ("set", "token/tok_1", "--requests", "600/0s"),
        ("set", "token/tok_1", "--requests", "-1/1m"),
        ("set", "token/tok_1", "--streams", "many"),
        ("set", "token/tok_1", "--max-body-bytes", "10MB"),
    ],
)
def test_what_is_wrong_is_usage(ask: Ask, api: Api, arguments: tuple[str, ...]) -> None:
    assert ask(*arguments).exit_code == 2
    assert api.requests == []
