"""API tokens on processes: by the command line, through two API servers, and nowhere to be found (T1)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.stack.homeport import Api, Keys, api, command, relay
from tests.stack.process import Process


class Installation:
    """A relay and two API servers on one database, and the command line."""

    def __init__(self, keys: Keys, servers: list[Api], processes: list[Process]) -> None:
        self.keys = keys
        self.servers = servers
        self.processes = processes
        self.said: list[str] = []
        """All that commands have written, but the one place where a token is shown."""
        self.seen_arguments: list[str] = []

    def run(self, *arguments: object, api_url: str | None = None) -> str:
        """A command; what it writes to standard output."""
        where = ("--api", api_url or self.servers[0].api, "--token-file", self.keys.admin_token_file)
        with subprocess.Popen(
            [command(), *map(str, arguments), *map(str, where)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self.look_at_arguments()
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        self.said.append(err)
        return out

    def look_at_arguments(self) -> None:
        """What anybody on the machine can see of our processes."""
        for process in psutil.Process().children(recursive=True):
            try:
                self.seen_arguments += [*process.cmdline(), *process.environ().values()]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def ask(self, server: Api, token: str, path: str = "/api/devices", **options: Any) -> httpx.Response:
        return httpx.get(
            f"{server.api}{path}", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30, **options
        )


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    @contextmanager
    def started() -> Iterator[Installation]:
        keys = Keys.make(tmp_path)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        debug = {"HOMEPORT_LOG_LEVEL": "debug"}
        with (
            relay(tmp_path, keys, environment=debug) as running,
            api(tmp_path / "one", keys, running, environment=debug) as one,
            api(tmp_path / "two", keys, running, environment=debug) as two,
        ):
            yield Installation(keys, [one, two], [running.process, one.process, two.process])

    with started() as made:
        yield made


def test_t1_tokens_are_nowhere_but_where_they_were_shown(installation: Installation, tmp_path: Path) -> None:
    one, two = installation.servers
    file = tmp_path / "for-the-program"
    made = json.loads(installation.run("tokens", "create", "ci", "--scope", "devices:read", "--output", file, "--json"))
    first = file.read_text().strip()
    second = installation.run("tokens", "rotate", made["id"], "--overlap", "1h").strip()
    third = json.loads(installation.run("tokens", "create", "other", "--json"))["token"]
    tokens = [first, second, third]

    answers = []
    for server in (one, two):
        assert [installation.ask(server, token).status_code for token in tokens] == [200, 200, 403]
        for token in tokens:
            answers += [
                installation.ask(server, token, f"/api/devices?token={token}"),
                installation.ask(server, token, f"/api/devices/{token}"),
                installation.ask(server, token, f"/{token}"),
                installation.ask(server, token[:-1] + "x"),
                httpx.post(
                    f"{server.api}/api/api-tokens",
                    headers={"Authorization": f"Bearer {token}"},
                    json={token: 1},
                    trust_env=False,
                ),
                httpx.get(f"{server.gateway}/d/home/cam/web/", headers={"X-API-Key": token}, trust_env=False),
                httpx.get(f"{server.gateway}/d/home/cam/web/?k={token}", headers={"X-API-Key": token}, trust_env=False),
            ]
        admin = installation.keys.admin_token
        for path in ("/metrics", "/api/api-tokens", "/api/audit", "/api/usage"):
            found = installation.ask(server, admin, path)
            assert found.status_code == 200, (path, found.text)
            answers.append(found)
    shown = installation.run("tokens", "list") + installation.run("tokens", "show", made["id"])
    installation.run("tokens", "revoke", made["id"])
    installation.look_at_arguments()
    assert second[:9] in installation.run("tokens", "list", "--json") + shown

    places = {"what was answered": "".join(f"{each.headers}{each.text}" for each in answers)}
    places |= {"what commands said": "".join(installation.said) + shown}
    places |= {"arguments and environments": "\n".join(installation.seen_arguments)}
    for process in installation.processes:
        process.stop()
        places[f"the log of {process.log}"] = process.log.read_text()
    assert '"request"' in places[f"the log of {one.process.log}"]
    database = [path for path in tmp_path.iterdir() if path.name.startswith("homeport.db")]
    assert database
    places |= {path.name: path.read_bytes().decode("latin-1") for path in database}
    assert made["id"] in places["homeport.db"]
    for token in tokens:
        secret = token[len("hp_") + 6 :]
        for place, content in places.items():
            # What was put into a path by the caller is the path, and logs name paths of changes only: none of these is.
            assert secret not in content, place


def test_t3_a_token_is_revoked_on_one_process_and_refused_by_the_other(installation: Installation) -> None:
    one, two = installation.servers
    token = installation.run("tokens", "create", "ci", "--scope", "devices:read").strip()
    (listed,) = json.loads(installation.run("tokens", "list", "--json"))["items"]
    assert installation.ask(one, token).status_code == installation.ask(two, token).status_code == 200
    installation.run("tokens", "revoke", listed["id"], api_url=two.api)
    give_up = time.monotonic() + 30
    while installation.ask(one, token).status_code != 401:
        assert time.monotonic() < give_up
    assert installation.ask(two, token).status_code == 401
