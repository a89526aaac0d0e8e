"""The process: its ready file, its signals, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from api_server.auth.admin_token import ensure_admin_token
from api_server.tokens.keys import ensure_token_keys
from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyfiles import ensure_secret
from common.crypto.keyring import ensure_keyring
from tests.databases.servers import make_database_file

PROGRAM = """
import os, sys
from api_server.app import run
from api_server.settings import ApiSettings
from common.settings import load
sys.exit(run(load(ApiSettings, config=None, environ=os.environ, overrides={})))
"""

PATIENCE = 30.0
"""Seconds after which the process is killed; only a failure takes them."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the process needs."""
    ensure_key_pair(tmp_path / "signing.json", tmp_path / "public.json")
    ensure_key_pair(tmp_path / "audit-signing-keys.json", tmp_path / "audit-keys.json")
    ensure_token_keys(tmp_path / "api-token-keys")
    ensure_keyring(tmp_path / "keyring.json")
    make_database_file(tmp_path / "homeport.db")
    ensure_secret(tmp_path / "internal-key")
    ensure_admin_token(tmp_path / "admin-token")
    return tmp_path


def environment(folder: Path, **changes: object) -> dict[str, str]:
    given = {
        "api_port": 0,
        "gateway_port": 0,
        "relay_url": "http://127.0.0.1:1",
        "internal_key_file": folder / "internal-key",
        "session_signing_key_file": folder / "signing.json",
        "admin_token_file": folder / "admin-token",
        "data_dir": folder,
        "ready_file": folder / "ready.json",
        "drain_grace": "1h",
        **changes,
    }
    return {
        "PATH": os.environ["PATH"],
        **{f"HOMEPORT_{name.upper()}": str(value) for name, value in given.items()},
    }


@contextmanager
def started(folder: Path, **changes: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment(folder, **changes),
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def read_until(stream: IO[str], event: str) -> None:
    """Read log lines up to the one that says `event`."""
    lines: list[str] = []
    while not lines or json.loads(lines[-1])["event"] != event:
        lines.append(stream.readline())
        assert lines[-1], f"the process ended after {lines}"


def ready(process: subprocess.Popen[str], folder: Path) -> dict[str, object]:
    """What the ready file says, once the process listens."""
    assert process.stderr is not None
    read_until(process.stderr, "listening")
    while not (folder / "ready.json").exists():
        assert process.poll() is None
    found: dict[str, object] = json.loads((folder / "ready.json").read_text())
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_in_order(folder: Path, number: signal.Signals) -> None:
    with started(folder) as process:
        found = ready(process, folder)
        assert found["pid"] == process.pid
        assert httpx.get(f"{found['api']}/healthz", trust_env=False).status_code == 200
        answer = httpx.get(f"{found['gateway']}/d/home/cam/web/", trust_env=False)
        assert answer.json()["code"] == "unauthenticated"
        process.send_signal(number)
        assert process.wait() == 0


def test_a_second_signal_ends_the_grace(folder: Path) -> None:
    """A request is under way, because the relay takes connections and does not answer; the grace is an hour."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        started(folder, relay_url=f"http://127.0.0.1:{silent.getsockname()[1]}") as process,
    ):
        found = ready(process, folder)
        host, _, port = str(found["gateway"]).removeprefix("http://").rpartition(":")
        token = (folder / "admin-token").read_text().strip()
        with socket.create_connection((host, int(port))) as client, ExitStack() as accepted:
            client.sendall(f"GET /d/home/cam/web/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {token}\r\n\r\n".encode())
            asked = b""
            while b"device=cam" not in asked:
                connection = accepted.enter_context(silent.accept()[0])
                asked = connection.recv(65536)
            process.terminate()
            assert process.stderr is not None
            read_until(process.stderr, "draining")
            process.terminate()
            assert process.wait() == 0
            with pytest.raises(ConnectionResetError):
                client.recv(65536)


def test_signals_that_go_on_to_the_end_do_not_make_it_a_failure(folder: Path) -> None:
    with started(folder) as process:
        ready(process, folder)
        while process.poll() is None:
            process.terminate()
        assert process.returncode == 0


def test_a_port_that_is_taken_is_said_and_ends_it(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, started(folder, api_port=taken.getsockname()[1]) as process:
        assert process.wait() == 1
        assert process.stderr is not None
        line = json.loads(process.stderr.read().splitlines()[-1])
        assert line["event"] == "the API server cannot listen"
        assert "address already in use" in line["detail"]
    assert not (folder / "ready.json").exists()


def test_a_key_file_that_is_open_to_others_is_said_and_ends_it(folder: Path) -> None:
    (folder / "admin-token").chmod(0o644)
    with started(folder) as process:
        assert process.wait() == 1
        assert process.stderr is not None
        line = json.loads(process.stderr.read().splitlines()[-1])
        assert (line["event"], line["code"]) == ("the API server cannot start", "key_file_unusable")
        assert (folder / "admin-token").read_text().strip() not in str(line)


def test_without_its_database_or_with_an_empty_one_it_says_so_and_ends(folder: Path) -> None:
    (folder / "homeport.db").unlink()
    (folder / "file").touch()
    urls = {"postgresql+psycopg://u:hunter2@127.0.0.1:1/d": "database_unavailable", "nonsense": "database_url_unusable"}
    for url, code in {"": "database_schema", **urls}.items():
        with started(folder, database_url=url) as process:
            assert process.wait() == 1
            assert process.stderr is not None
            text = process.stderr.read()
            line = json.loads(text.splitlines()[-1])
            assert (line["event"], line["code"]) == ("the API server cannot start", code)
            assert "hunter2" not in text


def test_no_secret_is_in_the_arguments_the_environment_or_the_log(folder: Path) -> None:
    with started(folder, log_level="debug") as process:
        found = ready(process, folder)
        token = (folder / "admin-token").read_text().strip()
        headers = {"X-API-Key": token}
        assert httpx.get(f"{found['api']}/api/auth/me", headers=headers, trust_env=False).status_code == 200
        shown = (
            Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
        ).decode()
        process.terminate()
        assert process.wait() == 0
        assert process.stderr is not None
        shown += process.stderr.read()
    for name in ("admin-token", "internal-key"):
        assert (folder / name).read_text().strip()[3:] not in shown
    (key,) = json.loads((folder / "signing.json").read_text())["keys"]
    assert key["d"] not in shown
