"""The ready file, and whose it is while two agents of one device run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.logging import get_logger
from edge_agent.agent import AgentState, AgentStatistics
from edge_agent.dispatch import DispatchStatistics
from edge_agent.ready_file import ReadyFile, remove_ready_file

DIALS = AgentStatistics(
    state=AgentState.CONNECTING,
    session_id=None,
    epoch=None,
    attempts=0,
    tunnels=0,
    bytes_in=0,
    bytes_out=0,
    streams=DispatchStatistics(streams=0, accepted=0, refused=0, abandoned=0),
)
CONNECTED = replace(DIALS, state=AgentState.CONNECTED, session_id="ses_1", epoch=7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ready.json"


@pytest.fixture
def own(path: Path) -> ReadyFile:
    return ReadyFile(path, "wss://relay/tunnel", get_logger("agent"))


@pytest.fixture
def another() -> Iterator[int]:
    """Process id of one that lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def test_it_says_how_the_agent_is_doing(own: ReadyFile, path: Path) -> None:
    own.update(DIALS)
    assert read(path)["connected"] is False
    own.update(CONNECTED)
    assert read(path) == {
        "pid": os.getpid(),
        "connected": True,
        "state": "connected",
        "relay": "wss://relay/tunnel",
        "session": "ses_1",
        "epoch": 7,
    }
    remove_ready_file(path)
    assert not path.exists()
    remove_ready_file(path)  # twice is no fault


def test_the_agent_that_was_started_last_has_it(own: ReadyFile, path: Path, another: int) -> None:
    """The order of an upgrade: the new one is connected before the old one hears that it was replaced."""
    own.update(CONNECTED)
    write(path, {"pid": another, "connected": True})
    own.update(DIALS)
    assert read(path) == {"pid": another, "connected": True}
    remove_ready_file(path)
    assert path.exists()


def test_a_new_agent_takes_it_from_one_that_runs(own: ReadyFile, path: Path, another: int) -> None:
    write(path, {"pid": another, "connected": True})
    own.update(DIALS)
    assert read(path)["pid"] == os.getpid()


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff",
        b'{"pid": "1"}',
        b'{"pid": -1}',
        b'{"pid": 0}',
        b'{"pid": 99999999999999999999}',
    ],
)
def test_what_no_agent_wrote_is_nobodys(own: ReadyFile, path: Path, left: bytes) -> None:
    own.update(DIALS)
    path.write_bytes(left)
    own.update(CONNECTED)
    assert read(path)["connected"] is True
    path.write_bytes(left)
    remove_ready_file(path)
    assert not path.exists()


def test_it_is_taken_back_from_one_that_died(own: ReadyFile, path: Path) -> None:
    own.update(DIALS)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write(path, {"pid": dead.pid, "connected": True})
    own.update(DIALS)
    assert (read(path)["pid"], read(path)["connected"]) == (os.getpid(), False)
