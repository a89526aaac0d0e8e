"""`homeport realms` against an API of a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.homeport.cli.api_server import Answer, Request, api_server, problem
from tests.homeport.cli.conftest import Run, json_of

Ask = Callable[..., Result]

REALM: dict[str, Any] = {
    "id": "weather",
    "team": "home",
    "comment": "The weather",
    "config": {"kind": "fetch", "method": "GET", "url": "https://weather.test/token"},
    "version": 1,
    "created_at": 1e9,
    "created_by": "user:usr_1",
    "updated_at": 1e9,
}
TOKEN = {"token": "t0k3n", "token_type": "Bearer", "expires_in": 1, "expires_at": 1e9, "source": "upstream"}
DRY = {
    "request": {"method": "GET", "url": "https://weather.test/token?a=***", "headers": {"Accept": "*/*"}, "body": None},
    "fields": ["key_1"],
    "answer": {"ok": True, "token": "***"},
}
FETCH = {"key": "k", "started_at": 1e9, "reason": "due", "outcome": "failed", "code": "http_500"}


class Api:
    """One realm, and everything in it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.method == "DELETE":
            return Answer(204)
        match request.path:
            case "/api/realm" if request.method == "GET":
                first = "cursor" not in request.query
                page = {"data": {"list": [REALM], "total": 2}, "next": "weather" if first else None, "success": "ok"}
                return Answer(200, page)
            case "/api/realm" | "/api/realm/weather":
                return Answer(200, REALM)
            case "/api/realm/weather/fetches":
                return Answer(200, {"items": [FETCH], "next": None})
            case "/api/realm/weather/test":
                return Answer(200, DRY)
            case "/api/secret" if request.method == "GET":
                return Answer(200, {"data": {"list": [{"key": "k"}], "total": 1}, "next": None, "success": "ok"})
            case "/api/secret":
                return Answer(201, {"key": "k", "provider": "https://weather.test"})
            case "/api/token":
                return Answer(200, TOKEN)
            case _:
                return problem(404, "no_such_realm", "the team has no realm of that id")


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ask(run: Run, token_file: Path, api: Api) -> Ask:
    def call(*arguments: str, **options: Any) -> Result:
        with api_server(api) as url:
            return run("realms", *arguments, "--api", url, "--token-file", str(token_file), "--team", "home", **options)

    return call


def test_listing_asks_for_every_page(ask: Ask, api: Api) -> None:
    assert len(json_of(ask("list", "--json").stdout)["items"]) == 2
    assert "https://weather.test/token" in ask("list").output
    assert [request.query.get("cursor") for request in api.requests] == [None, "weather"] * 2


def test_showing(ask: Ask) -> None:
    output = ask("show", "weather").output
    assert "The weather" in output
    assert "http_500" in output
    assert ask("show", "nothing").exit_code == 1


def test_making_and_deleting(ask: Ask, api: Api, tmp_path: Path) -> None:
    file = tmp_path / "realm.json"
    file.write_text(json.dumps({"id": "weather", "config": {"url": "https://weather.test/token"}}))
    assert ask("create", str(file)).exit_code == 0
    assert api.requests[-1].body == {
        "id": "weather",
        "team": "home",
        "config": {"url": "https://weather.test/token"},
    }
    file.write_text('{"key_1": "v"}')
    assert ask("add-secret", "weather", "k", str(file)).exit_code == 0
    assert api.requests[-1].body == {"realm": "weather", "key": "k", "team": "home", "key_1": "v"}
    assert ask("delete-secret", "weather", "k").exit_code == 0
    assert api.requests[-1].path == "/api/secret/weather/k"
    assert ask("delete", "weather").exit_code == 0
    for wrong in ("no json", "[]"):
        file.write_text(wrong)
        assert ask("create", str(file)).exit_code == 2


def test_a_dry_run(ask: Ask, api: Api, tmp_path: Path) -> None:
    assert "a=***" in ask("test", "weather").output
    (tmp_path / "answer").write_text("{}")
    assert ask("test", "weather", "--answer", str(tmp_path / "answer"), "--status", "201").exit_code == 0
    assert api.requests[-1].body == {"answer": {"status": 201, "body": "{}"}}


def test_the_token_alone_is_written_to_standard_output(ask: Ask, api: Api) -> None:
    assert ask("token", "weather", "k").stdout == "t0k3n\n"
    assert api.requests[-1].query == {"realm": "weather", "key": "k", "team": "home"}
    assert json_of(ask("token", "weather", "k", "--flush", "--json").stdout) == TOKEN
    assert api.requests[-1].query["flush"] == "true"
