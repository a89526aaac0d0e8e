"""Which URL, token and team a command uses; above all, which token never goes where."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.run_file import write_run_file
from homeport.settings import default_data_dir
from tests.homeport.cli.api_server import TOKEN, Answer, Request, api_server
from tests.homeport.cli.conftest import Run, json_of
from tests.homeport.up.test_data_directory import RUN


class Recorder:
    """An API with nobody connected, that remembers who asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        return Answer(200, {"items": [], "next": None})


def data_dir(folder: Path, api: str, *, token: str) -> Path:
    folder.mkdir(parents=True)
    write_run_file(folder, type(RUN)(**{name: getattr(RUN, name) for name in RUN.__struct_fields__} | {"api": api}))
    (folder / "admin-token").touch(mode=0o600)
    (folder / "admin-token").write_text(token)
    return folder


def test_from_the_data_directory(run: Run, tmp_path: Path, home: Path) -> None:
    asked = Recorder()
    with api_server(asked) as url:
        folder = data_dir(tmp_path / "data", url, token=TOKEN)
        data_dir(home / ".local" / "share" / "homeport", url, token=TOKEN + "default")
        data_dir(tmp_path / "xdg" / "homeport", url, token=TOKEN + "xdg")
        for result in (
            run("sessions", "list", "--data-dir", folder),
            run("sessions", "list", HOMEPORT_DATA_DIR=str(folder)),
            run("sessions", "list"),
            run("sessions", "list", XDG_DATA_HOME=str(tmp_path / "xdg")),
        ):
            assert result.exit_code == 0, result.output
    assert [request.authorization for request in asked.requests] == [
        f"Bearer {TOKEN}{suffix}" for suffix in ("", "", "default", "xdg")
    ]
    assert {request.query["team"] for request in asked.requests} == {"home"}


def test_flags_before_environment_before_file(run: Run, tmp_path: Path, token_file: Path) -> None:
    config = tmp_path / "homeport.toml"
    config.write_text('[client]\nteam = "from-file"\n')
    asked = Recorder()
    with api_server(asked) as url:
        where = ("--api", url, "--token-file", token_file, "--config", config)
        run("sessions", "list", *where)
        run("sessions", "list", *where, HOMEPORT_TEAM="from-environment")
        run("sessions", "list", *where, "--team", "from-flag", HOMEPORT_TEAM="from-environment")
    assert [request.query["team"] for request in asked.requests] == ["from-file", "from-environment", "from-flag"]
    assert {request.authorization for request in asked.requests} == {f"Bearer {TOKEN}"}


def test_the_token_of_a_data_directory_goes_to_no_other_api(run: Run, tmp_path: Path) -> None:
    """Who can make somebody name a URL must not get the administration token."""
    foreign = Recorder()
    with api_server(Recorder()) as url, api_server(foreign) as other:
        folder = data_dir(tmp_path / "data", url, token=TOKEN)
        result = run("sessions", "list", "--data-dir", folder, "--api", other)
        assert result.exit_code == 1
        assert f"no token for {other}: give --token-file" in result.stderr
        forwarded = run("forward", "home/demo/ssh", "--stdio", "--data-dir", folder, "--gateway", other)
        assert forwarded.exit_code == 1
        assert f"no token for {other}" in forwarded.stderr
    assert foreign.requests == []


def test_a_token_file_that_others_can_read_is_refused(run: Run, token_file: Path) -> None:
    token_file.chmod(0o640)
    asked = Recorder()
    with api_server(asked) as url:
        result = run("sessions", "list", "--api", url, "--token-file", token_file)
    assert result.exit_code == 1
    assert "mode 0640" in result.stderr
    assert asked.requests == []


def test_a_proxy_of_the_environment_gets_nothing_for_this_machine(run: Run, token_file: Path) -> None:
    direct, proxy = Recorder(), Recorder()
    with api_server(direct) as url, api_server(proxy) as proxy_url:
        result = run("sessions", "list", "--api", url, "--token-file", token_file, HTTP_PROXY=proxy_url)
    assert result.exit_code == 0, result.output
    assert proxy.requests == []
    assert len(direct.requests) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"api": 5}'])
def test_a_run_file_that_is_none(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    result = run("sessions", "list", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "is not what `homeport up` writes" in result.stderr


def test_a_run_file_of_a_newer_version_is_read(run: Run, tmp_path: Path) -> None:
    asked = Recorder()
    with api_server(asked) as url:
        folder = data_dir(tmp_path / "data", url, token=TOKEN)
        path = folder / "run.json"
        path.write_text(path.read_text().replace("{", '{"console": "http://127.0.0.1:9",', 1))
        assert run("sessions", "list", "--data-dir", folder).exit_code == 0


def test_the_default_data_directory() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/homeport")
    fallback = Path.home() / ".local" / "share" / "homeport"
    assert default_data_dir({}) == default_data_dir({"XDG_DATA_HOME": "relative"}) == fallback


def test_a_team_that_is_no_name(run: Run, token_file: Path) -> None:
    result = run(
        "sessions", "list", "--api", "http://127.0.0.1:9", "--token-file", token_file, "--team", "a/b", "--json"
    )
    assert result.exit_code == 1
    assert json_of(result.stderr)["code"] == "not_configured"


def test_certificates_that_are_none(run: Run, token_file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", token_file):
        where = ("--gateway", "https://127.0.0.1:9", "--token-file", token_file, "--ca-file", path)
        result = run("forward", "home/demo/ssh", "--stdio", *where)
        assert result.exit_code == 1
        assert f"{path} holds no certificates" in result.stderr
