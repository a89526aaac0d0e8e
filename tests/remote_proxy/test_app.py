"""The process: what it says, what it returns, and how it ends."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyfiles import ensure_secret
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import DeviceId, TeamId
from common.secret import Secret
from tests.contract.devices import Device, keep
from tests.remote_proxy.wire import connect

RUN = """
import json, sys
from pathlib import Path
from common.settings import load
from remote_proxy.app import run
from remote_proxy.settings import RelaySettings
sys.exit(run(load(RelaySettings, config=None, environ={}, overrides=json.loads(sys.argv[1]))))
"""

Start = Callable[..., "Run"]


class Run:
    """A relay's process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(settings)], stderr=subprocess.PIPE, text=True
        )

    def read_line(self, event: str) -> dict[str, Any]:
        """The first log line from here on that says `event`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"it ended with {self.process.wait()} and never said {event!r}")

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts relays on free ports, with keys in `tmp_path`."""
    runs: list[Run] = []
    ensure_key_pair(tmp_path / "signing.json", tmp_path / "session-keys.json")
    ensure_secret(tmp_path / "internal-key")

    def start_one(**changes: Any) -> Run:
        settings = {
            "tunnel_port": 0,
            "internal_port": 0,
            "internal_key_file": str(tmp_path / "internal-key"),
            "session_keys_file": str(tmp_path / "session-keys.json"),
            "ready_file": str(tmp_path / "ready.json"),
            **changes,
        }
        runs.append(Run(settings))
        return runs[-1]

    yield start_one
    for run in runs:
        run.process.kill()
        run.process.wait()
        assert run.process.stderr is not None
        run.process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_well(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    run = start()
    line = run.read_line("ready")
    ready = json.loads((tmp_path / "ready.json").read_text())
    assert ready == {"pid": run.process.pid, "tunnel": line["tunnel"], "internal": line["internal"]}
    assert ready["tunnel"].endswith("/tunnel")
    for url in (ready["internal"], ready["tunnel"].replace("ws:", "http:").removesuffix("/tunnel")):
        with urlopen(f"{url}/healthz") as answer:
            assert answer.read() == b"ok\n"
    assert run.end(number) == 0


@pytest.mark.anyio
async def test_a_second_signal_ends_the_grace(start: Start, tmp_path: Path) -> None:
    run = start(drain_grace=3600)
    line = run.read_line("ready")
    kept = keep()
    device = Device({"keep": kept})
    await device.dial(line["tunnel"], new_token(tmp_path))
    assert device.hello is not None
    async with connect(line["internal"]) as client:
        client.send(
            f"POST /internal/sessions/{device.hello.session_id}/streams HTTP/1.1\r\nHost: relay\r\n"
            f"Authorization: Bearer {(tmp_path / 'internal-key').read_text().strip()}\r\nConnection: Upgrade\r\n"
            "Upgrade: homeport-stream\r\nHomeport-Team: home\r\nHomeport-Service: keep\r\n\r\n".encode()
        )
        assert (await client.read_answer()).status == 101
        run.process.send_signal(signal.SIGTERM)
        await device.wait_drain()
        run.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            await client.read_end()
        assert await device.wait_lost() == "draining"
    assert run.end() == 0


def test_signals_that_go_on_to_the_end_do_not_make_it_a_failure(start: Start) -> None:
    run = start()
    run.read_line("ready")
    while run.process.poll() is None:
        run.process.send_signal(signal.SIGTERM)
    assert run.process.returncode == 0


def new_token(folder: Path) -> Secret:
    now = time.time()
    return SessionTokenSigner.from_file(folder / "signing.json").sign(
        SessionClaims(
            device=DeviceId("cam"),
            device_name="cam",
            team=TeamId("home"),
            credential=CredentialId("cred"),
            issued_at=now,
            expires_at=now + 3600,
        )
    )


@pytest.mark.parametrize("file", ["internal-key", "session-keys.json"])
def test_without_its_keys_it_does_not_start(start: Start, tmp_path: Path, file: str) -> None:
    (tmp_path / file).unlink()
    run = start()
    line = run.read_line("the relay cannot start")
    assert line["code"] == "key_file_unusable"
    assert file in line["detail"]
    assert run.end() == 1


def test_with_a_key_that_others_may_read_it_does_not_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "internal-key").chmod(0o644)
    run = start()
    assert "chmod 600" in run.read_line("the relay cannot start")["detail"]
    assert run.end() == 1


@pytest.mark.parametrize("setting", ["tunnel_port", "internal_port"])
def test_on_a_port_that_is_taken_it_does_not_start(start: Start, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = start(**{setting: taken.getsockname()[1]})
        assert run.read_line("the relay cannot listen")
        assert run.end() == 1


def test_it_asks_for_the_open_files_that_its_tunnels_need(start: Start) -> None:
    run = start(max_tunnels=1_000_000_000 // 128)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    line = run.read_line("fewer open files than max_tunnels needs")
    assert line["limit"] == hard
    run.read_line("ready")
    assert run.end(signal.SIGTERM) == 0
