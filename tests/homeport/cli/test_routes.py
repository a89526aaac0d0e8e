"""`homeport routes` and `homeport upstream-secrets` against an API of a few lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.homeport.cli.api_server import Answer, Request, api_server, problem
from tests.homeport.cli.conftest import Run, json_of

Ask = Callable[..., Result]

ROUTE: dict[str, Any] = {
    "id": "rte_1",
    "name": "cameras",
    "team": "home",
    "path": "/cameras",
    "target": {"kind": "device", "label": "cameras", "service": "web"},
    "tags": ["video"],
    "auth": {"kind": "bearer", "secret": "key"},
    "strip_prefix": True,
    "health": None,
    "cors": None,
    "inspect": False,
    "version": 3,
    "created_at": 1e9,
    "created_by": "user:usr_1",
    "updated_at": 1e9,
}
SECRET = {
    "id": "ups_1",
    "name": "key",
    "team": "home",
    "destination": "https://api.example.org",
    "version": 2,
    "created_at": 1e9,
    "created_by": "user:usr_1",
    "updated_at": 1e9,
}


class Api:
    """One route and one secret."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        one = ROUTE if request.path.startswith("/api/routes") else SECRET
        if request.method == "DELETE":
            return Answer(204)
        if request.path.endswith("/missing"):
            return problem(404, "no_such_route", "the team has no route of that id or name")
        if request.path in ("/api/routes", "/api/upstream-secrets") and request.method == "GET":
            return Answer(200, {"items": [one], "next": None})
        return Answer(201 if request.method == "POST" else 200, one)

    @property
    def last(self) -> Request:
        return self.requests[-1]


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ask(run: Run, token_file: Path, api: Api) -> Ask:
    def call(*arguments: object, **environment: str) -> Result:
        with api_server(api) as url:
            return run(*arguments, "--api", url, "--token-file", token_file, HOMEPORT_GATEWAY=url, **environment)

    return call


def test_what_there_is(ask: Ask) -> None:
    line = ask("routes", "list").stdout.splitlines()[1]
    assert line.split()[:2] == ["cameras", "/cameras"]
    assert "devices labelled cameras: web" in line
    assert json_of(ask("routes", "list", "--json").stdout) == {"items": [ROUTE]}
    assert "bearer, with the secret key" in ask("routes", "show", "cameras").stdout
    assert json_of(ask("routes", "show", "cameras", "--json").stdout) == ROUTE
    missing = ask("routes", "show", "missing")
    assert missing.exit_code == 1
    assert "no_such_route" in missing.stderr
    assert "https://api.example.org" in ask("upstream-secrets", "list").stdout
    assert json_of(ask("upstream-secrets", "show", "key", "--json").stdout) == SECRET


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (
            ("--device", "cam", "--service", "web", "--tag", "a", "--tag", "b"),
            {"target": {"kind": "device", "device": "cam", "service": "web"}, "tags": ["a", "b"]},
        ),
        (
            ("--label", "cameras", "--health-path", "/up", "--health-interval", "5", "--keep-prefix"),
            {
                "target": {"kind": "device", "label": "cameras", "service": "web"},
                "health": {"path": "/up", "interval": 5.0},
                "strip_prefix": False,
            },
        ),
        (
            ("--url", "https://api.example.org", "--auth", "api-key", "--secret-name", "key", "--header", "X-Key"),
            {
                "target": {"kind": "url", "url": "https://api.example.org"},
                "auth": {"kind": "api-key", "secret": "key", "header": "X-Key"},
            },
        ),
        (
            ("--device", "cam", "--cors-origin", "https://app.example.org"),
            {
                "target": {"kind": "device", "device": "cam", "service": "web"},
                "cors": {"origins": ["https://app.example.org"]},
            },
        ),
    ],
)
def test_what_is_published(ask: Ask, api: Api, options: tuple[str, ...], body: dict[str, Any]) -> None:
    result = ask("routes", "create", "cameras", "/cameras", *options)
    assert result.exit_code == 0, result.stderr
    assert api.last.body == {"team": "home", "name": "cameras", "path": "/cameras", **body}
    assert "/cameras" in result.stderr
    assert ask("routes", "change", "cameras", "--version", "3", *options).exit_code == 0
    assert (api.last.method, api.last.path) == ("PATCH", "/api/routes/cameras")
    assert api.last.body == {"version": 3, **body}


def test_what_makes_no_sense_is_wrong_usage(ask: Ask, api: Api) -> None:
    for options in (
        (),
        ("--url", "https://x.org", "--device", "cam"),
        ("--device", "cam", "--secret-name", "key"),
        ("--device", "cam", "--auth", "else"),
    ):
        assert ask("routes", "create", "cameras", "/cameras", *options).exit_code == 2
    assert api.requests == []


def test_deleting(ask: Ask, api: Api) -> None:
    assert json_of(ask("routes", "delete", "cameras", "--version", "3", "--json").stdout) == {"deleted": "cameras"}
    assert api.last.query == {"team": "home", "version": "3"}
    assert ask("upstream-secrets", "delete", "key").exit_code == 0


def test_a_secrets_value_comes_from_a_file_or_from_standard_input(ask: Ask, api: Api, tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.touch(mode=0o600)
    path.write_text("s3cret\n")
    result = ask("upstream-secrets", "create", "key", "https://api.example.org", "--value-file", path)
    assert result.exit_code == 0, result.stderr
    assert api.last.body == {
        "team": "home",
        "name": "key",
        "destination": "https://api.example.org",
        "value": "s3cret",
    }
    assert "s3cret" not in result.output
    assert ask("upstream-secrets", "replace", "key", "--value-file", path).exit_code == 0
    assert api.last.body == {"value": "s3cret"}


def test_what_is_taken_away_is_null(ask: Ask, api: Api) -> None:
    result = ask("routes", "change", "cameras", "--no-health", "--no-cors", "--no-tags", "--no-inspect")
    assert result.exit_code == 0, result.output
    assert api.last.body == {"health": None, "cors": None, "tags": [], "inspect": False}


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ("--no-tags", ("--tag", "video")),
        ("--no-health", ("--health-interval", "5")),
        ("--no-cors", ("--cors-origin", "https://a.example.org")),
    ],
)
def test_nothing_is_set_and_taken_away_at_once(ask: Ask, api: Api, off: str, on: tuple[str, str]) -> None:
    result = ask("routes", "change", "cameras", off, *on)
    assert result.exit_code == 2
    assert f"{off} and {on[0]} exclude each other" in result.output
    assert api.requests == []


REQUEST: dict[str, Any] = {
    "id": "rqs_1",
    "at": 1e9,
    "method": "POST",
    "target": "/cameras/x?token=***",
    "status": 200,
    "error": None,
    "seconds": 0.25,
    "caller": "token:tok_1",
    "replay_of": None,
    "replayable": True,
}
BODY = {"size": 20000, "truncated": True, "text": "one\ntwo\x1b[31m", "base64": None}
MESSAGE = {"headers": [["Content-Type", "text/plain"]], "body": BODY}
DETAIL = REQUEST | {"request": MESSAGE, "response": MESSAGE | {"status": 200}}


class Inspector(Api):
    """One request that was kept."""

    inspect = True

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.path.endswith("/missing"):
            return problem(404, "request_not_kept", "it is not kept")
        if request.path.endswith("/requests"):
            items = [REQUEST] if self.inspect else []
            return Answer(200, {"process": "vm:1", "inspect": self.inspect, "items": items, "next": None})
        return Answer(200, {"process": "vm:1", "request": DETAIL})


@pytest.fixture
def inspector() -> Inspector:
    return Inspector()


@pytest.fixture
def look(run: Run, token_file: Path, inspector: Inspector) -> Ask:
    def call(*arguments: object) -> Result:
        with api_server(inspector) as url:
            return run("routes", "requests", *arguments, "--api", url, "--token-file", token_file)

    return call


def test_the_requests_to_a_route(look: Ask, inspector: Inspector) -> None:
    shown = look("list", "cameras").output
    assert "POST    /cameras/x?token=***  200     0.250 s  token:tok_1  rqs_1" in shown
    assert json_of(look("list", "cameras", "--json").stdout)["process"] == "vm:1"
    assert inspector.requests[-1].query == {"team": "home", "limit": "1000"}
    inspector.inspect = False
    assert "homeport routes change cameras --inspect" in look("list", "cameras").stderr


def test_a_request_is_shown_without_what_would_move_the_cursor(look: Ask, inspector: Inspector) -> None:
    result = look("show", "cameras", "rqs_1")
    assert inspector.requests[-1].path == "/api/routes/cameras/requests/rqs_1"
    assert (
        "POST /cameras/x?token=***\nContent-Type: text/plain\n\none\ntwo\N{REPLACEMENT CHARACTER}[31m\n"
        in result.stdout
    )
    assert "(19.5 KiB in all)" in result.stderr
    assert json_of(look("show", "cameras", "rqs_1", "--json").stdout)["request"]["id"] == "rqs_1"
    assert look("show", "cameras", "missing").exit_code == 1


def test_a_request_is_sent_again(look: Ask, inspector: Inspector) -> None:
    result = look("replay", "cameras", "rqs_1")
    assert result.exit_code == 0, result.output
    assert (inspector.requests[-1].method, inspector.requests[-1].path) == (
        "POST",
        "/api/routes/cameras/requests/rqs_1/replay",
    )
    assert "sent again as rqs_1" in result.stderr
