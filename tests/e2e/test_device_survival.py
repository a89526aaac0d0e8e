"""What a paired device outlives: an API and a database that are away, and a session token that has expired."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from api_server.db.engine import Kind
from common.crypto.keyfiles import read_secret
from tests.databases.fixtures import FreshDatabase
from tests.databases.servers import unreachable
from tests.faults.chaos import ChaosProxy
from tests.stack.homeport import Keys, Relay, api, command, relay
from tests.stack.process import Process


def pair(keys: Keys, url: str, folder: Path, name: str) -> Path:
    """`homeport agent pair` with a token made for it; gives the agent's folder."""
    body, headers = {"team": keys.team, "name": name}, {"Authorization": f"Bearer {keys.admin_token}"}
    made = httpx.post(f"{url}/api/pairing-tokens", json=body, headers=headers, trust_env=False, timeout=60)
    assert made.status_code == 201, made.text
    own = folder / name
    arguments = ["agent", "pair", "--api", url, "--data-dir", str(own)]
    environment = {"HOMEPORT_PAIRING_TOKEN": made.json()["token"]}
    with Process("pair", [command(), *arguments], folder=folder, environment=environment) as process:
        assert process.wait(seconds=60) == 0, process.log.read_text()
    return own


@contextmanager
def agent(own: Path) -> Iterator[Process]:
    """`homeport agent` of a paired device; not waited for."""
    ready = own.with_suffix(".ready")
    arguments = ["agent", "--data-dir", str(own), "--ready-file", str(ready), "--service", "web=http://127.0.0.1:9"]
    with Process(f"agent-{own.name}", [command(), *arguments], folder=own.parent) as process:
        yield process


def state(own: Path) -> Any:
    """What the agent tells of itself."""
    ready = own.with_suffix(".ready")
    return json.loads(ready.read_bytes()) if ready.exists() else {"connected": False, "session": None, "epoch": None}


def sessions(keys: Keys, at: Relay) -> list[Any]:
    """Whom the relay holds, by its own word: the API may be away."""
    headers = {"Authorization": f"Bearer {read_secret(keys.internal_key_file).reveal()}", "Accept": "application/json"}
    answer = httpx.get(f"{at.internal}/internal/sessions", params={"team": keys.team}, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_api_and_database_away(tmp_path: Path, fresh_database: FreshDatabase) -> None:
    """Tunnels stay, and who is cut off comes back: the relay needs public keys, and nobody else."""
    keys = Keys.make(tmp_path)
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(Kind.POSTGRESQL))
        at = stack.enter_context(relay(tmp_path, keys))
        parts = urlsplit(at.tunnel)
        assert parts.hostname is not None
        assert parts.port is not None
        line = stack.enter_context(ChaosProxy((parts.hostname, parts.port), name="device-relay"))
        tunnel = f"ws://{line.address}/tunnel"
        environment = {"HOMEPORT_DATABASE_URL": url, "HOMEPORT_TUNNEL_URL": tunnel}
        running = stack.enter_context(api(tmp_path, keys, at, environment=environment))
        own = pair(keys, running.api, tmp_path, "shed")
        process = stack.enter_context(agent(own))
        process.wait_until(lambda: state(own)["connected"], "connected")
        before = state(own)

        running.process.stop()
        stack.enter_context(unreachable(url))
        assert [each["id"] for each in sessions(keys, at)] == [before["session"]]
        line.apply("up reset")
        process.wait_until(lambda: state(own)["connected"] and state(own)["epoch"] != before["epoch"], "back")
        assert [each["id"] for each in sessions(keys, at)] == [state(own)["session"]]
        assert "renew" not in process.log.read_text()


def test_p4_a_relay_that_was_down_meanwhile_does_not_let_a_disabled_device_back_in(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path)
    with ExitStack() as stack:
        first = stack.enter_context(relay(tmp_path, keys, environment={"HOMEPORT_AWAIT_REVOCATIONS": "true"}))
        running = stack.enter_context(api(tmp_path, keys, first))
        shed, barn = (pair(keys, running.api, tmp_path, name) for name in ("shed", "barn"))
        processes = [stack.enter_context(agent(own)) for own in (shed, barn)]
        for own, process in zip((shed, barn), processes, strict=True):
            process.wait_until(lambda own=own: state(own)["connected"], "connected")

        first.process.signal(signal.SIGKILL)
        first.process.wait()
        answer = httpx.patch(
            f"{running.api}/api/devices/shed",
            params={"team": keys.team},
            json={"disabled": True},
            headers={"Authorization": f"Bearer {keys.admin_token}"},
            trust_env=False,
            timeout=60,
        )
        assert (answer.status_code, answer.json()["code"]) == (502, "relay_unavailable")

        ports = {
            f"HOMEPORT_{name}_PORT": str(urlsplit(url).port)
            for name, url in (("TUNNEL", first.tunnel), ("INTERNAL", first.internal))
        }
        again = stack.enter_context(relay(tmp_path, keys, environment={**ports, "HOMEPORT_AWAIT_REVOCATIONS": "true"}))
        assert processes[0].wait(seconds=60) == 1, "it is told for good"
        assert "device_disabled" in processes[0].log.read_text()
        processes[1].wait_until(lambda: state(barn)["connected"], "back")
        assert [each["device_name"] for each in sessions(keys, again)] == ["barn"]


def test_an_expired_session_token_is_renewed_and_dialled_with(tmp_path: Path) -> None:
    """While the device was off, what it would dial in with has expired: the agent needs nobody's help."""
    keys = Keys.make(tmp_path)
    with ExitStack() as stack:
        at = stack.enter_context(relay(tmp_path, keys))
        environment = {"HOMEPORT_SESSION_TOKEN_LIFETIME": "3"}
        running = stack.enter_context(api(tmp_path, keys, at, environment=environment))
        own = pair(keys, running.api, tmp_path, "shed")
        first = read_secret(own / "session-token").reveal()
        expires_at = json.loads(read_secret(own / "device.json").reveal())["expires_at"]
        while time.time() <= expires_at + 1:
            time.sleep(0.05)
        process = stack.enter_context(agent(own))
        process.wait_until(lambda: "session token renewed" in process.log.read_text(), "renewed")
        process.wait_until(lambda: state(own)["connected"], "connected")
        assert "session_token_expired" in process.log.read_text()
        assert read_secret(own / "session-token").reveal() != first
        assert len(sessions(keys, at)) == 1
