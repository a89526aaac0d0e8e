"""A device of `homeport up` from its pairing to its deletion, by the commands that people type."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack.homeport import command
from tests.stack.installation import Installation
from tests.stack.process import Process

SOON = 30.0
"""Seconds for what is promised within one: the machine may be busy."""


class Person:
    """Somebody with the administration token and a terminal."""

    def __init__(self, installation: Installation) -> None:
        self._folder = installation.folder

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A command of `homeport`; it succeeds."""
        done = subprocess.run(
            [command(), *map(str, arguments), "--data-dir", str(self._folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def ask(self, *arguments: object) -> Any:
        """What a command says as JSON."""
        return json.loads(self.run(*arguments, "--json").stdout)


class Device:
    """A machine with a folder for the agent."""

    def __init__(self, folder: Path, installation: Installation) -> None:
        self.folder = folder
        self._installation = installation
        self._starts = 0
        folder.mkdir()

    def pair(self, token_file: Path) -> subprocess.CompletedProcess[str]:
        """`homeport agent pair`."""
        api = str(self._installation.run["api"])
        arguments = ["--api", api, "--token-file", str(token_file), "--data-dir", str(self.folder / "own")]
        return subprocess.run(
            [command(), "agent", "pair", *arguments], capture_output=True, text=True, check=False, timeout=90
        )

    @contextmanager
    def agent(self, **services: str) -> Iterator[Process]:
        """`homeport agent` as it was paired; not waited for."""
        self._starts += 1
        arguments = ["agent", "--data-dir", str(self.folder / "own"), "--ready-file", str(self.ready_file)]
        for name, url in services.items():
            arguments += ["--service", f"{name}={url}"]
        with Process(f"agent-{self._starts}", [command(), *arguments], folder=self.folder) as process:
            yield process

    @property
    def ready_file(self) -> Path:
        """Where the agent tells of itself."""
        return self.folder / "ready.json"

    def wait_connected(self, agent: Process) -> None:
        """Wait until the agent says so."""
        agent.wait_until(lambda: self.ready_file.exists() and self._state()["connected"], "connected")

    def _state(self) -> Any:
        return json.loads(self.ready_file.read_bytes())


@pytest.fixture
def person(installation: Installation) -> Person:
    return Person(installation)


@pytest.fixture
def device(tmp_path: Path, installation: Installation) -> Device:
    return Device(tmp_path / "device", installation)


@pytest.fixture
def service(installation: Installation) -> str:
    """URL of the demo service, which our device offers as well."""
    return str(json.loads((installation.folder / "demo-ready.json").read_bytes())["url"])


class Stream:
    """A request whose answer goes on and on, read in a thread."""

    def __init__(self, installation: Installation, url: str) -> None:
        self._installation = installation
        self._url = url
        self._flowing = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.ended_at: float | None = None

    def __enter__(self) -> Stream:
        self._thread.start()
        assert self._flowing.wait(60), "nothing came"
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(SOON)
        assert self.ended_at is not None, "the stream goes on"

    def _read(self) -> None:
        headers = self._installation.authorization
        try:
            with httpx.stream("GET", self._url, headers=headers, trust_env=False, timeout=60) as answer:
                for _ in answer.iter_raw():
                    self._flowing.set()
        except httpx.TransportError:
            pass
        self.ended_at = time.monotonic()


def get(installation: Installation, url: str) -> httpx.Response:
    return httpx.get(url, headers=installation.authorization, trust_env=False, timeout=60)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def sessions_of(person: Person, name: str) -> list[Any]:
    return [each for each in person.ask("sessions", "list")["items"] if each["device_name"] == name]


def cut_off(act: Callable[[], Any], stream: Stream, agent: Process) -> None:
    """Do what ends a device's access while a stream flows: stream and tunnel end, and the agent stops for good."""
    begun = time.monotonic()
    with stream:
        flowing = time.monotonic()
        act()
    assert stream.ended_at is not None
    assert stream.ended_at > flowing > begun
    print(f"the stream ended {stream.ended_at - flowing:.3f} s after it was asked for")
    assert agent.wait(seconds=SOON) == 1
    assert '"reason":"revoked"' in agent.log.read_text().replace('": "', '":"'), agent.log.read_text()


def test_from_pairing_to_deletion(
    installation: Installation,
    person: Person,
    device: Device,
    service: str,
    tmp_path: Path,
) -> None:
    token_file = tmp_path / "token"
    made = person.ask("pairing-tokens", "create", "--name", "greenhouse", "--output", token_file)
    assert "token" not in made
    assert token_file.stat().st_mode & 0o777 == 0o600
    paired = device.pair(token_file)
    assert paired.returncode == 0, paired.stderr
    assert "paired as greenhouse in the team home" in paired.stdout
    assert token_file.read_text().strip() not in paired.stdout + paired.stderr

    listed = person.run("pairing-tokens", "list").stdout
    assert any(made["id"] in line and "used up" in line and "1 of 1" in line for line in listed.splitlines()), listed
    url, flowing = (installation.url("glasshouse", "web", path) for path in ("/status/204", "/clock"))

    # Paired and not started: the gateway knows it.
    assert code_of(get(installation, installation.url("greenhouse", "web"))) == (502, "device_offline")
    with device.agent(web=service) as agent:
        device.wait_connected(agent)
        shown = person.ask("devices", "show", "greenhouse")
        assert (shown["name"], shown["paired"], shown["disabled_at"]) == ("greenhouse", True, None)
        assert [each["kind"] for each in shown["session_tokens"]] == ["bound"]
        assert shown["id"] == json.loads((device.folder / "own" / "device.json").read_bytes())["device"]
        text = person.run("devices", "show", "greenhouse").stdout
        assert shown["id"] in text
        rows = person.run("devices", "list").stdout.splitlines()
        assert any(row.split()[:2] == ["greenhouse", "paired"] for row in rows), rows

        # By its name, by its id, and at once by a new name.
        assert get(installation, installation.url("greenhouse", "web", "/status/204")).status_code == 204
        assert get(installation, installation.url(shown["id"], "web", "/status/204")).status_code == 204
        person.run("devices", "rename", "greenhouse", "glasshouse")
        assert get(installation, url).status_code == 204

        def disable() -> None:
            with installation.client() as client:
                answer = client.patch(
                    "/api/devices/glasshouse", params={"team": installation.team}, json={"disabled": True}
                )
                assert answer.status_code == 200, answer.text
                # When it is said to be done, it is done.
                left = client.get("/api/sessions", params={"team": installation.team}).json()["items"]
                assert shown["id"] not in [each["device"] for each in left]

        cut_off(disable, Stream(installation, flowing), agent)
        assert code_of(get(installation, url)) == (502, "device_offline")
        assert person.ask("devices", "show", "glasshouse")["session_tokens"] == []

    # It cannot come back, until it is let in; then it needs nobody's help.
    with device.agent(web=service) as agent:
        assert agent.wait(seconds=60) == 1
        assert "device_disabled" in agent.log.read_text()
    person.run("devices", "enable", "glasshouse")
    with device.agent(web=service) as agent:
        device.wait_connected(agent)
        assert get(installation, url).status_code == 204
        cut_off(
            lambda: person.run("devices", "revoke", "glasshouse"),
            Stream(installation, flowing),
            agent,
        )
    with device.agent(web=service) as agent:
        assert agent.wait(seconds=60) == 1
        assert "device_key_unknown" in agent.log.read_text()
    assert sessions_of(person, "glasshouse") == []
    assert person.ask("devices", "show", "glasshouse")["paired"] is False

    person.run("devices", "delete", "glasshouse")
    assert code_of(get(installation, url)) == (404, "no_such_device")
    assert "glasshouse" not in person.run("devices", "list").stdout


def test_a_spent_token_shown_by_another_device_is_told_to_its_owner(
    installation: Installation, person: Person, device: Device, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    made = person.ask("pairing-tokens", "create", "--name", "once", "--output", token_file)
    assert device.pair(token_file).returncode == 0
    thief = Device(tmp_path / "thief", installation).pair(token_file)
    assert thief.returncode == 1
    assert "pairing_token_used" in thief.stderr or "used up" in thief.stderr, thief.stderr
    shown = person.ask("pairing-tokens", "show", made["id"])
    assert (shown["used"], shown["reuse_count"]) == (1, 1)
    person.run("devices", "delete", "once")
