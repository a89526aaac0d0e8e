"""`homeport doctor` where nothing runs, and where something else answers. A healthy one is in tests/homeport/up."""

from __future__ import annotations

import email.utils
import socket
from pathlib import Path
from typing import Any

from click.testing import Result

from homeport.up.data_directory import DataDirectory
from tests.homeport.cli.api_server import Answer, Request, api_server, problem
from tests.homeport.cli.conftest import Run, json_of
from tests.homeport.up.test_data_directory import RUN


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in json_of(result.stdout)["findings"]}


def test_nothing_runs_and_a_port_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        free = {f"HOMEPORT_{name}_PORT": "0" for name in ("API", "GATEWAY", "TUNNEL")}
        result = run("doctor", "--json", HOMEPORT_INTERNAL_PORT=str(port), **free)
    found = findings(result)
    assert result.exit_code == 1
    taken = found["port for what relay and API tell each other"]
    assert taken["verdict"] == "bad"
    assert f"port {port}" in taken["detail"]
    assert "use --internal-port" in taken["advice"]
    assert found["homeport up"]["detail"].startswith("does not run in ")


def test_nothing_runs_and_all_is_well(run: Run) -> None:
    result = run("doctor", **{f"HOMEPORT_{name}_PORT": "0" for name in ("API", "GATEWAY", "TUNNEL", "INTERNAL")})
    assert result.exit_code == 0, result.output
    assert "WRONG" not in result.stdout


def test_a_folder_that_others_can_read(run: Run, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.make_keys()
    directory.path.chmod(0o755)
    directory.signing_keys.chmod(0o640)
    found = findings(run("doctor", "--data-dir", directory.path, "--json"))
    assert found["data directory"]["verdict"] == "warning"
    assert found["data directory"]["advice"] == f"chmod 700 {directory.path}"
    assert found["file session-signing-keys.json"]["verdict"] == "bad"
    assert found["file admin-token"]["verdict"] == "good"


def test_what_a_killed_supervisor_left(run: Run, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.make_keys()
    with api_server(lambda _: Answer(200)) as url:
        pass  # nobody is there any more
    gone = type(RUN)(**{name: getattr(RUN, name) for name in RUN.__struct_fields__} | {"api": url, "pid": 2**22 + 1})
    directory.write_run_file(gone)
    result = run("doctor", "--data-dir", directory.path, "--json")
    found = findings(result)
    assert result.exit_code == 1
    assert "is gone" in found["supervisor"]["detail"]
    assert f"{url}/healthz does not answer" in found["API"]["detail"]


def test_a_token_that_is_refused_and_a_clock_that_is_off(run: Run, token_file: Path) -> None:
    def api(request: Request) -> Answer:
        if request.path == "/api/sessions":
            return problem(401, "unauthenticated", "the token is unknown")
        return Answer(200, None, {"Date": email.utils.formatdate(0, usegmt=True)})

    with api_server(api) as url:
        result = run("doctor", "--api", url, "--token-file", token_file, "--json")
    found = findings(result)
    assert result.exit_code == 1
    assert found["API"]["verdict"] == "good"
    assert found["token"]["detail"] == "the token is unknown"
    assert "apart from that of" in found["clock"]["detail"]


def test_an_api_without_a_token_for_it(run: Run) -> None:
    with api_server(lambda _: Answer(200)) as url:
        result = run("doctor", "--api", url, "--json")
    assert result.exit_code == 1
    assert findings(result)["token"]["verdict"] == "bad"
