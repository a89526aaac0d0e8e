"""`homeport sessions` and `homeport devices` against an API of a few lines."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.homeport.cli.api_server import Answer, Request, api_server, problem, session
from tests.homeport.cli.conftest import Run, json_of

Ask = Callable[..., Result]

IDS = [f"ses_{number:032x}" for number in range(3)]


class Api:
    """Three sessions, one a page."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        last = request.path.rpartition("/")[2]
        if request.method == "POST":
            token = {"id": "crd_1", "session_token": "eyJ.a.b", "expires_at": 9e9, "tunnel_url": "ws://relay/tunnel"}
            return Answer(201, token)
        if request.path == "/api/sessions":
            at = int(request.query.get("cursor", 0))
            return Answer(200, {"items": [session(at)], "next": str(at + 1) if at < 2 else None})
        if last in IDS:
            return Answer(204) if request.method == "DELETE" else Answer(200, session(IDS.index(last)))
        return problem(404, "no_such_session", "the team has no live session of that id")


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ask(run: Run, token_file: Path, api: Api) -> Ask:
    def call(*arguments: object) -> Result:
        with api_server(api) as url:
            return run(*arguments, "--api", url, "--token-file", token_file)

    return call


def test_list_goes_through_all_pages(ask: Ask) -> None:
    assert [item["id"] for item in json_of(ask("sessions", "list", "--json").stdout)["items"]] == IDS
    lines = ask("sessions", "list").stdout.splitlines()
    assert lines[0].split() == ["DEVICE", "STATE", "FOR", "RTT", "STREAMS", "IN", "OUT", "SERVICES", "SESSION"]
    assert [line.split()[0] for line in lines[1:]] == ["device-0", "device-1", "device-2"]
    for line, session_id in zip(lines[1:], IDS, strict=True):
        assert "1.5 KiB" in line
        assert "ssh:unhealthy web" in line
        assert line.rstrip().endswith(session_id)


@pytest.mark.parametrize("name", [IDS[1], "device-1"])
def test_show_by_id_or_device(ask: Ask, name: str) -> None:
    assert json_of(ask("sessions", "show", name, "--json").stdout)["id"] == IDS[1]
    shown = ask("sessions", "show", name).stdout
    assert IDS[1] in shown
    assert "web (healthy)" in shown
    assert "homeport-agent/0.1.0" in shown


@pytest.mark.parametrize("name", [IDS[2], "device-2"])
def test_close_by_id_or_device_closes_that_epoch(ask: Ask, api: Api, name: str) -> None:
    result = ask("sessions", "close", name, "--json")
    assert json_of(result.stdout) == {"closed": IDS[2]}
    assert (api.requests[-1].method, api.requests[-1].path) == ("DELETE", f"/api/sessions/{IDS[2]}")
    assert api.requests[-1].query["epoch"] == "2"


@pytest.mark.parametrize("name", ["nobody", "ses_" + "f" * 32, "../devices"])
@pytest.mark.parametrize("verb", ["show", "close"])
def test_what_is_not_there_is_1(ask: Ask, api: Api, verb: str, name: str) -> None:
    result = ask("sessions", verb, name, "--json")
    assert result.exit_code == 1
    assert json_of(result.stderr)["code"] == "no_such_session"
    assert all(request.method == "GET" for request in api.requests)


def test_what_a_device_says_of_itself_cannot_play_with_the_terminal(run: Run, token_file: Path) -> None:
    evil = session(1, agent_version="\x1b]0;pwned\x07[bold]x[/bold]", device_name="[red]d[/red]")
    with api_server(lambda _: Answer(200, {"items": [evil], "next": None})) as url:
        where = ("--api", url, "--token-file", token_file)
        listed = run("sessions", "list", *where).stdout
        shown = run("sessions", "show", "device-1", *where).stdout
    assert "[red]d[/red]" in listed
    assert "[bold]x[/bold]" in shown
    assert "\x1b" not in listed + shown
    assert "\x07" not in shown


def test_nobody_connected_is_no_failure(run: Run, token_file: Path) -> None:
    with api_server(lambda _: Answer(200, {"items": [], "next": None})) as url:
        result = run("sessions", "list", "--api", url, "--token-file", token_file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no device of team home is connected\n"


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (problem(401, "unauthenticated", "the token is unknown"), "unauthenticated", "the token is unknown"),
        (problem(429, "rate_limited", "slow down", Retry_After="7"), "rate_limited", "try again in 7 s"),
        (Answer(502, b"<html>bad gateway</html>"), "api_refused", "502 Bad Gateway"),
        (Answer(301, b"", {"Location": "https://elsewhere/"}), "api_refused", "301 Moved Permanently"),
        (Answer(200, b"<html>hello</html>"), "api_unreachable", "is it the URL of the API?"),
        (Answer(200, {"items": "?"}), "api_unreachable", "is it the URL of the API?"),
    ],
)
def test_refusals_in_the_words_of_the_api(run: Run, token_file: Path, answer: Answer, code: str, says: str) -> None:
    with api_server(lambda _: answer) as url:
        where = ("sessions", "list", "--api", url, "--token-file", token_file)
        result = run(*where)
        assert result.exit_code == 1
        assert says in result.stderr
        assert f"[{code}]" in result.stderr
        assert json_of(run(*where, "--json").stderr)["code"] == code


def test_no_api_there(run: Run, token_file: Path) -> None:
    with api_server(lambda _: Answer(200)) as url:
        pass
    result = run("sessions", "list", "--api", url, "--token-file", token_file)
    assert result.exit_code == 1
    assert f"the API at {url} does not answer" in result.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:3721", "ftp://x", "http://[", "http://x:port"])
def test_a_url_that_is_none(run: Run, token_file: Path, url: str) -> None:
    result = run("sessions", "list", "--api", url, "--token-file", token_file)
    assert result.exit_code == 1
    assert result.stderr.startswith("homeport: ")


def test_a_device_token_on_standard_output(ask: Ask, api: Api) -> None:
    result = ask("devices", "token", "camera", "--expires-in", "24h", "--service", "web")
    assert result.stdout == "eyJ.a.b\n"
    assert "--relay ws://relay/tunnel" in result.stderr
    request = api.requests[-1]
    assert (request.method, request.path) == ("POST", "/api/devices/camera/session-tokens")
    assert request.body == {"expires_in": 86400, "service": "web"}
    assert json_of(ask("devices", "token", "camera", "--json").stdout)["session_token"] == "eyJ.a.b"


def test_a_device_token_in_a_file_is_shown_nowhere_else(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "device.token"
    path.write_text("old")
    path.chmod(0o644)
    result = ask("devices", "token", "camera", "--output", path)
    assert result.exit_code == 0, result.output
    assert "eyJ" not in result.output
    assert path.read_text() == "eyJ.a.b\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    as_json = ask("devices", "token", "camera", "--output", path, "--json")
    assert json_of(as_json.stdout)["output"] == str(path)
    assert "eyJ" not in as_json.output


def test_a_device_token_that_cannot_be_written_is_a_failure(ask: Ask, tmp_path: Path) -> None:
    assert ask("devices", "token", "camera", "--output", tmp_path / "missing" / "file").exit_code == 1
