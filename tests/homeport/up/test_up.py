"""`homeport up` as a person or a script sees it: real processes, real ports, the real tunnel."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from homeport.demo.keystream import keystream
from tests.homeport.up.running import ANY_PORTS, Transcript, Up, clean_environment, homeport, running_up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that most tests share."""
    with running_up(tmp_path_factory.mktemp("up") / "a folder") as shared:
        yield shared


def test_run_json(up: Up) -> None:
    run = up.run
    assert set(run) >= {"api", "gateway", "tunnel", "internal", "issuer", "pid", "team", "demo_device", "demo_service"}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", run["issuer"])
    assert run["pid"] == up.process.pid
    assert (run["team"], run["demo_device"], run["demo_service"]) == ("home", "demo", "demo")
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/tunnel", run["tunnel"])
    for name in ("api", "gateway", "internal"):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", run[name])
    assert up.get(f"{run['api']}/healthz").status_code == 200
    assert stat.S_IMODE((up.data_dir / "admin-token").stat().st_mode) == 0o600


def test_the_printed_curl_line_works_as_printed(up: Up, tmp_path: Path) -> None:
    (line,) = [line for line in up.output.lines if line.startswith("curl ")]
    shown = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True).stdout
    arrived = json.loads(shown)
    assert arrived["method"] == "GET"
    assert arrived["path"] == "/headers"
    assert up.token not in shown.decode()


def test_the_page_is_where_it_is_said_to_be(up: Up) -> None:
    (line,) = [line for line in up.output.lines if line.startswith("  Open")]
    page = up.get(line.split()[-1])
    assert page.status_code == 200
    assert "You have reached a device." in page.text


def test_no_secret_in_logs_or_arguments(up: Up) -> None:
    secrets = [
        up.token,
        (up.data_dir / "internal-key").read_text().strip(),
        (up.data_dir / "demo" / "session-token").read_text().strip(),
        (up.data_dir / "cookie-keys").read_text().strip(),
        *(key["key"] for key in json.loads((up.data_dir / "keyring.json").read_text())["keys"]),
    ]
    processes = [psutil.Process(up.process.pid), *psutil.Process(up.process.pid).children()]
    seen = "\n".join([*up.log.lines, *up.output.lines, *(" ".join(process.cmdline()) for process in processes)])
    assert len(processes) == 6
    assert not [secret for secret in secrets if secret in seen]


def test_a_second_one_on_the_same_folder(up: Up) -> None:
    second = up.command("up", *ANY_PORTS, "--json")
    assert second.returncode == 1
    problem = json.loads(second.stderr)
    assert problem["code"] == "data_directory_in_use"
    assert f"process {up.process.pid}" in problem["detail"]
    assert up.get(f"{up.demo_url}/status/204").status_code == 204


@pytest.mark.parametrize("flag", ["--api-port", "--gateway-port", "--tunnel-port", "--internal-port"])
def test_a_port_in_use(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = homeport("up", "--data-dir", tmp_path, *ANY_PORTS, flag, port)
        refused = subprocess.run(command, capture_output=True, env=clean_environment(), check=False)
    assert refused.returncode == 1
    assert f"port {port}, for ".encode() in refused.stderr
    assert f"choose another by {flag}".encode() in refused.stderr
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("name", ["relay", "api", "agent", "demo", "dev-idp"])
def test_a_killed_process_comes_back_where_it_was(up: Up, name: str) -> None:
    before, seen = up.run, len(up.log.lines)
    killed = up.child(name)
    killed.kill()
    up.log.wait_for(rf"\| {name} was killed by SIGKILL; it starts again in \d", after=seen)
    up.log.wait_for(rf"\| {name} is running again", after=seen)
    if name == "relay":
        up.log.wait_for(r"^agent .* connected", after=seen)  # it dials again by itself
    assert up.run == before
    assert up.child(name).pid != killed.pid
    assert up.get(f"{up.demo_url}/bytes/1000").content == b"".join(keystream(0, 1000))


def test_sessions_list_show_and_close(up: Up) -> None:
    (item,) = json.loads(up.command("sessions", "list", "--json").stdout)["items"]
    assert (item["device_name"], item["team"], item["state"]) == ("demo", "home", "healthy")
    assert b"homeport-agent/" in up.command("sessions", "show", "demo").stdout
    seen = len(up.log.lines)
    closed = up.command("sessions", "close", "demo", "--json")
    assert json.loads(closed.stdout) == {"closed": item["id"]}
    up.log.wait_for(r"^agent .* connected", after=seen)
    (again,) = json.loads(up.command("sessions", "list", "--json").stdout)["items"]
    assert again["id"] != item["id"]
    assert again["epoch"] > item["epoch"]
    gone = up.command("sessions", "show", item["id"], "--json")
    assert gone.returncode == 1
    assert json.loads(gone.stderr)["code"] == "no_such_session"


def test_a_device_of_ones_own(up: Up, tmp_path: Path) -> None:
    token = tmp_path / "token"
    assert up.command("devices", "register", "camera").returncode == 0
    issued = up.command("devices", "token", "camera", "--expires-in", "1h", "--output", token, "--json")
    about = json.loads(issued.stdout)
    assert about["tunnel_url"] == up.run["tunnel"]
    service = f"web={_url_of_demo_service(up)}"
    command = homeport("agent", "--relay", about["tunnel_url"], "--token-file", token, "--service", service)
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment()) as agent:
        log = Transcript(agent.stderr)
        log.wait_for("connected")
        assert up.get(f"{up.run['gateway']}/d/home/camera/web/status/204").status_code == 204
        agent.terminate()
        assert agent.wait() == 0
        log.join()


def _url_of_demo_service(up: Up) -> str:
    url = json.loads((up.data_dir / "demo-ready.json").read_bytes())["url"]
    assert isinstance(url, str)
    return url


def test_forward_a_port(up: Up) -> None:
    command = homeport("forward", "home/demo/demo", "--data-dir", up.data_dir, "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as process:
        output = Transcript(process.stdout)
        output.wait_for("^}")
        (address,) = json.loads("".join(output.lines))["listen"]
        for _ in range(2):  # a stream of its own for each connection
            body = httpx.get(f"http://{address}/bytes/300000", trust_env=False).content
            assert body == b"".join(keystream(0, 300_000))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        output.join()


def test_forward_standard_input_and_output(up: Up) -> None:
    request = b"GET /bytes/100000 HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"
    command = homeport("forward", "home/demo/demo", "--stdio", "--data-dir", up.data_dir)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(request)
        process.stdin.flush()
        # Input ends after the answer: the demo's HTTP server drops a client that half-closes before it was answered.
        answer = process.stdout.read()
        process.stdin.close()
        assert process.wait() == 0, process.stderr.read()
    assert answer.endswith(b"\r\n\r\n" + b"".join(keystream(0, 100_000)))


@pytest.mark.parametrize(
    ("target", "code"), [("home/demo/nothing", "service_refused"), ("home/nobody/web", "no_such_device")]
)
def test_forward_that_is_refused(up: Up, target: str, code: str) -> None:
    refused = up.command("forward", target, "--stdio", "--json", stdin=subprocess.DEVNULL)
    assert refused.returncode == 1
    assert json.loads(refused.stderr)["code"] == code
    assert refused.stdout == b""


def test_doctor_finds_all_well(up: Up) -> None:
    done = up.command("doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {name for name, finding in findings.items() if finding["verdict"] == "bad"} == set(), findings
    assert done.returncode == 0
    assert set(findings) >= {"supervisor", "API", "token", "clock", "gateway", "relay, tunnels", "demo device"}
    assert up.command("doctor").stdout.startswith(b"ok")


def test_doctor_sees_a_token_that_others_can_read(up: Up) -> None:
    path = up.data_dir / "internal-key"
    path.chmod(0o644)
    try:
        done = up.command("doctor")
    finally:
        path.chmod(0o600)
    assert done.returncode == 1
    assert re.search(rb"^WRONG +file internal-key: .*chmod 600", done.stdout, re.MULTILINE)


def test_the_lives_of_a_data_directory(tmp_path: Path) -> None:
    """Stopped with a request under way, started again where it was, killed, started once more, and hurried."""
    with running_up(tmp_path) as up:
        token, ports = up.token, [urlsplit(up.run[name]).port for name in PORT_FLAGS]
        children = psutil.Process(up.process.pid).children()
        assert len(children) == 5
        with httpx.stream("GET", f"{up.demo_url}/bytes/40000000", headers=up.authorization, trust_env=False) as answer:
            chunks = answer.iter_raw()
            received = len(next(chunks))
            up.process.send_signal(signal.SIGTERM)
            up.log.wait_for("stopping")
            received += sum(map(len, chunks))
        assert received == 40_000_000
        assert up.stop() == 0
        assert not (tmp_path / "run.json").exists()
        assert not [child for child in children if child.is_running()]

    given = [text for pair in zip(PORT_FLAGS.values(), ports, strict=True) for text in pair]
    with running_up(tmp_path, *given) as up:
        assert up.token == token
        assert [urlsplit(up.run[name]).port for name in PORT_FLAGS] == ports
        assert up.get(f"{up.demo_url}/status/204").status_code == 204
        watched = [os.pidfd_open(child.pid) for child in psutil.Process(up.process.pid).children()]
        assert len(watched) == 5
        up.process.kill()
        up.process.wait()
        while watched:
            # Readable once the process has ended; a child that outlives its parent hangs here.
            ended, _, _ = select.select(watched, [], [])
            for descriptor in ended:
                os.close(descriptor)
                watched.remove(descriptor)
        assert (tmp_path / "run.json").exists()

    with running_up(tmp_path, *given, "--drain-grace", "1h") as up:
        assert up.token == token
        with httpx.stream("GET", f"{up.demo_url}/clock", headers=up.authorization, trust_env=False) as clock:
            next(clock.iter_raw())
            up.process.send_signal(signal.SIGINT)
            up.log.wait_for("once more to stop at once")
            while up.process.poll() is None:  # however often it is asked
                up.process.send_signal(signal.SIGINT)
            assert up.process.returncode == 0


PORT_FLAGS = {
    "api": "--api-port",
    "gateway": "--gateway-port",
    "tunnel": "--tunnel-port",
    "internal": "--internal-port",
}


def test_a_signal_during_the_start(tmp_path: Path) -> None:
    up = Up(tmp_path, *ANY_PORTS)
    up.log.wait_for("starting")
    assert up.stop() == 0
    assert not (tmp_path / "run.json").exists()


def test_without_a_demo_and_as_json(tmp_path: Path) -> None:
    up = Up(tmp_path, *ANY_PORTS, "--no-demo", "--json")
    try:
        up.output.wait_for("^}")
        assert json.loads("".join(up.output.lines)) == up.run
        assert up.run["demo_device"] is None
        assert up.run["demo_service"] is None
        assert json.loads(up.command("sessions", "list", "--json").stdout) == {"items": []}
        assert len(psutil.Process(up.process.pid).children()) == 3
    finally:
        assert up.stop() == 0


def test_a_process_that_cannot_start_is_told_with_its_words(tmp_path: Path) -> None:
    # An address of no machine (RFC 5737): no port of it is in use, and yet nobody can listen there.
    environment = clean_environment() | {"HOMEPORT_TUNNEL_HOST": "192.0.2.1"}
    command = homeport("up", "--data-dir", tmp_path, *ANY_PORTS)
    failed = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert failed.returncode == 1
    assert failed.stdout == b""
    told = failed.stderr.decode().partition("homeport: ")[2]
    assert told.startswith("relay ended with exit code 1 before it was ready; it said:\n")
    assert "192.0.2.1" in told
    assert told.endswith("[process_failed]\n")
    assert not (tmp_path / "run.json").exists()


def test_settings_of_the_environment_reach_the_processes(tmp_path: Path) -> None:
    config = tmp_path / "homeport.toml"
    config.write_text('team = "office"\n[relay]\nrelay_name = "the-relay"\n')
    with running_up(tmp_path / "data", "--config", config) as up:
        assert up.run["team"] == "office"
        (item,) = json.loads(up.command("sessions", "list", "--json").stdout)["items"]
        assert (item["team"], item["relay"]) == ("office", "the-relay")


def test_its_database_has_the_newest_schema_and_its_audit_log_is_intact(up: Up) -> None:
    schema = json.loads(up.command("db", "current", "--json").stdout)
    assert schema["schema"] == schema["needed"]
    assert json.loads(up.command("audit", "verify", "--json").stdout)["intact"]
    assert stat.S_IMODE((up.data_dir / "homeport.db").stat().st_mode) == 0o600
