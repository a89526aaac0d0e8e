"""A process that runs out of something goes on: it serves what it has, refuses new work with a code, and recovers."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.cluster import Cluster, only_in_faults, wait_for
from tests.stack.process import Process
from tests.stack.raw_tcp import receive_exactly

WHO = ["relay", "api", "agent"]
ENOUGH = 60
"""Streams by which the shortage must have been felt."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    api = {"HOMEPORT_RELAY_PATIENCE": "1s"}
    with Cluster(tmp_path_factory.mktemp("shortages"), apis=1, api_settings=api) as cluster:
        yield cluster


def process_of(cluster: Cluster, who: str) -> Process:
    return {
        "relay": cluster.relay.process,
        "api": cluster.apis[0].process,
        "agent": cluster.agents["cam"].process,
    }[who]


@contextmanager
def limited(pid: int, what: int, limit: int) -> Iterator[None]:
    """A lower limit for the living process."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def open_stream(cluster: Cluster) -> socket.socket | str:
    """A raw TCP connection to the echo of `cam`, or how it was refused."""
    gateway = urlsplit(cluster.gateways[0])
    request = (
        f"GET /t/{cluster.keys.team}/cam/echo HTTP/1.1\r\nHost: gateway\r\n"
        f"Authorization: Bearer {cluster.keys.admin_token}\r\nConnection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
    )
    connection = socket.create_connection((gateway.hostname, gateway.port), timeout=20)
    try:
        connection.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                connection.close()
                return "cut"
            head += data
    except OSError as exc:
        connection.close()
        return "silent" if isinstance(exc, TimeoutError) else "reset"
    if head.startswith(b"HTTP/1.1 101 "):
        return connection
    connection.close()
    code = head.partition(b'"code":"')[2].partition(b'"')[0].decode()
    return f"{head[9:12].decode()} {code}"


def echoes(connection: socket.socket) -> bool:
    """Whether the stream works."""
    connection.sendall(b"still here")
    return receive_exactly(connection, 10) == b"still here"


@pytest.mark.parametrize("who", WHO)
def test_out_of_descriptors(cluster: Cluster, who: str) -> None:
    process = process_of(cluster, who)
    sessions = {name: session["id"] for name, session in cluster.sessions().items()}
    with ExitStack() as stack:
        streams: list[socket.socket] = []
        refused: list[str] = []
        first = open_stream(cluster)
        assert isinstance(first, socket.socket)
        streams.append(stack.enter_context(first))
        highest = max(int(name) for name in os.listdir(f"/proc/{process.pid}/fd"))
        with limited(process.pid, resource.RLIMIT_NOFILE, highest + 1):
            while len(refused) < 3:
                stream = open_stream(cluster)
                if isinstance(stream, str):
                    refused.append(stream)
                else:
                    streams.append(stack.enter_context(stream))
                assert len(streams) < ENOUGH, "there is no shortage"
            assert all(echoes(stream) for stream in streams)
        # The gateway that has no descriptor for a client cannot tell it why; it does not keep it waiting.
        codes = {
            "relay": {"502 relay_unavailable"},
            "api": {"reset", "cut", "502 relay_unavailable"},
            "agent": {"503 over_capacity"},
        }
        assert set(refused) <= codes[who]
        wait_for(lambda: cluster.reaches("cam"), "well again")
        assert all(echoes(stream) for stream in streams)
    assert process.running
    assert {name: session["id"] for name, session in cluster.sessions().items()} == sessions, "no tunnel was lost"


@pytest.mark.parametrize("who", WHO)
def test_disk_full(cluster: Cluster, who: str) -> None:
    """Not a byte can be written: no log, no ready file, no row of the database."""
    process = process_of(cluster, who)
    size = process.log.stat().st_size
    with ExitStack() as stack, limited(process.pid, resource.RLIMIT_FSIZE, 0):
        stream = open_stream(cluster)
        assert isinstance(stream, socket.socket)
        stack.enter_context(stream)
        assert echoes(stream)
        if who == "api":
            assert register(cluster).status_code >= 500, "it could not be kept, so it is not said to be done"
            assert open_again(cluster), "and nothing has been done"
        elif who == "agent":
            close_session(cluster)  # it dials again, and would say so in its log and its ready file
            wait_for(lambda: cluster.reaches("cam"), "in service again")
        else:
            close_session(cluster)
            wait_for(lambda: cluster.reaches("cam"), "in service again")
            cluster.agents["door"].restart()
            assert cluster.reaches("door")
        assert process.running
        assert process.log.stat().st_size == size, "there is no shortage"
    if who != "api":
        close_session(cluster)
        wait_for(lambda: cluster.reaches("cam"), "in service again")
        wait_for(lambda: process.log.stat().st_size > size, "writing its log again")
    assert cluster.reaches("cam")


def register(cluster: Cluster) -> httpx.Response:
    """Register a device."""
    headers = {"Authorization": f"Bearer {cluster.keys.admin_token}"}
    body = {"team": cluster.keys.team, "name": "one-more"}
    return httpx.post(f"{cluster.apis[0].now.api}/api/devices", json=body, headers=headers, timeout=60, trust_env=False)


def open_again(cluster: Cluster) -> bool:
    """Whether a new stream can be opened."""
    stream = open_stream(cluster)
    if isinstance(stream, str):
        return False
    stream.close()
    return True


def close_session(cluster: Cluster) -> None:
    """End the session of `cam`, as an operator does."""
    headers = {"Authorization": f"Bearer {cluster.keys.internal_key_file.read_text().strip()}"}
    session = cluster.sessions()["cam"]["id"]
    url = f"{cluster.relay.now.internal}/internal/sessions/{session}"
    httpx.delete(
        url, params={"team": cluster.keys.team}, headers=headers, timeout=60, trust_env=False
    ).raise_for_status()
    wait_for(lambda: cluster.sessions().get("cam", {}).get("id") not in (None, session), "back with a new session")


@only_in_faults
def test_out_of_memory_budget(tmp_path: Path) -> None:
    """Windows cannot grow, and nothing waits for readers that do not read: all goes on, slower; a reader that stops
    costs itself.
    """
    relay = {"HOMEPORT_MEMORY_BUDGET": "64KiB", "HOMEPORT_SESSION_MEMORY_BUDGET": "64KiB"}
    agent = {"HOMEPORT_MEMORY_BUDGET": "64KiB"}
    with Cluster(tmp_path, apis=1, relay_settings=relay, agent_settings=agent) as cluster:
        stuck = [open_stream(cluster) for _ in range(4)]
        for each in stuck:
            assert isinstance(each, socket.socket)
            fill(each)
        with cluster.load() as load:
            for device in ("cam", "door"):
                load.everything("api0", cluster.gateways[0], device)
            load.wait_all_well()
            mark = load.mark()
            load.wait_all_well(since=mark)
            assert load.since(mark).failures == []
        for each in stuck:
            assert isinstance(each, socket.socket)
            each.close()
        assert cluster.relay.process.running
        cluster.relay.process.signal(signal.SIGTERM)
        assert cluster.relay.process.wait(seconds=60) == 0


def fill(connection: socket.socket) -> None:
    """Send until nothing more is taken: the echo is never read, so this has to stop."""
    connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            connection.sendall(bytes(65536))
