"""Thousands of streams whose readers stopped, in both directions, on one relay: its memory stays within what is set, it
gives up the streams that hold the most and no other, and everything is given back in the end.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.light_agents import allow_open_files, light_agents, session_tokens
from tests.stack.homeport import Keys, Relay, relay

MIB = 2**20
STREAMS, BUDGET = (10_000, 512 * MIB) if os.environ.get("HOMEPORT_FAULTS") == "all" else (2_000, 64 * MIB)
PER_DEVICE = 100
"""Fewer than the opens that one device may have unanswered."""
A_STREAM = 32 * 1024
"""Bytes of the relay's own memory that an open stream may cost beside the budget: objects, the client's connection, and
up to 16 KiB on the way that are not counted."""
A_PROCESS = 24 * MIB
"""What else may come: code that was not used before, and free memory that the allocator keeps."""
FRAGMENTATION = 1.25
"""Bytes that the allocator takes for each that is held: buffers of 256,000 bytes do not fill its pages."""

pytestmark = pytest.mark.timeout(300)


class Control:
    """The relay's internal port."""

    def __init__(self, running: Relay, keys: Keys) -> None:
        self._key = keys.internal_key_file.read_text().strip()
        self._team = keys.team
        parts = urlsplit(running.internal)
        self._address = (parts.hostname, parts.port)
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        self._client = httpx.Client(base_url=running.internal, headers=headers, trust_env=False, timeout=60)

    def close(self) -> None:
        self._client.close()

    def sessions(self) -> list[str]:
        """Ids of all sessions, in the order of their devices' names."""
        page = self._client.get("/internal/sessions", params={"team": self._team, "limit": "1000"}).json()
        assert page["next"] is None
        return [item["id"] for item in sorted(page["items"], key=lambda item: item["device"])]

    def metric(self, name: str) -> float:
        """A metric without labels."""
        for line in self._client.get("/metrics").text.splitlines():
            if line.startswith(f"homeport_relay_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def open(self, session: str, service: str, *, receive_buffer: int | None = None) -> socket.socket:
        """A stream's connection, its request sent and its answer not read."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(self._address)
        sock.sendall(
            f"POST /internal/sessions/{session}/streams HTTP/1.1\r\nHost: relay\r\n"
            f"Authorization: Bearer {self._key}\r\nConnection: Upgrade\r\nUpgrade: homeport-stream\r\n"
            f"Homeport-Team: {self._team}\r\nHomeport-Service: {service}\r\n\r\n".encode()
        )
        return sock


@contextmanager
def echo_stream(control: Control, session: str) -> Iterator[socket.socket]:
    """A stream to an echo, open and proven."""
    with control.open(session, "echo") as sock:
        sock.settimeout(60)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        check_echo(sock)
        yield sock


def check_echo(sock: socket.socket) -> None:
    sock.sendall(b"are you there")
    answer = b""
    while len(answer) < 13:
        piece = sock.recv(100)
        assert piece
        answer += piece
    assert answer == b"are you there"


def push(socks: Sequence[socket.socket]) -> int:
    """Send on each what its connection takes now; returns how many bytes that were."""
    sent = 0
    chunk = bytes(256 * 1024)
    for sock in socks:
        try:
            while True:
                sent += sock.send(chunk, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        except ConnectionError:
            continue  # the relay gave it up
    return sent


def test_streams_whose_readers_stopped_stay_within_the_budget(tmp_path: Path) -> None:
    """Half the devices send to clients that do not read; the clients of the others send to devices that do not."""
    allow_open_files(STREAMS + 1_000)
    keys = Keys.make(tmp_path)
    devices = STREAMS // PER_DEVICE
    tokens = session_tokens(keys, [f"light-{number:03}" for number in range(devices + 1)])
    with ExitStack() as stack:
        settings = {"HOMEPORT_BUFFER_BUDGET": str(BUDGET), "HOMEPORT_LOG_LEVEL": "warning"}
        running = stack.enter_context(relay(tmp_path, keys, environment=settings))
        agents = stack.enter_context(light_agents(running.tunnel, tokens, tmp_path, processes=1))
        agents.wait_connected(devices + 1)
        control = Control(running, keys)
        stack.callback(control.close)
        bystander, *sessions = control.sessions()
        other = stack.enter_context(echo_stream(control, bystander))
        before = running.process.memory_bytes()

        readers: list[socket.socket] = []
        writers: list[socket.socket] = []
        most = 0
        for number, session in enumerate(sessions):
            for _ in range(PER_DEVICE):
                if number % 2:
                    writers.append(stack.enter_context(control.open(session, "deaf")))
                else:
                    readers.append(stack.enter_context(control.open(session, "flood", receive_buffer=4096)))
            wait_opened(running, control, (number + 1) * PER_DEVICE + 1)
            push(writers[-PER_DEVICE:])
            most = max(most, running.process.memory_bytes())
        settled, now = -1.0, 0.0
        while settled != now:
            settled, now = now, control.metric("streams_shed_total") + push(writers)
            most = max(most, running.process.memory_bytes())
            assert control.metric("held_bytes") <= BUDGET
            check_echo(other)

        assert control.metric("streams_shed_total") > 0  # or else it was not much
        assert control.metric("held_bytes") > BUDGET / 2
        assert most - before < BUDGET * FRAGMENTATION + STREAMS * A_STREAM + A_PROCESS

        for sock in readers + writers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        running.process.wait_until(lambda: control.metric("streams") == 1, "left with one stream", seconds=60)
        assert control.metric("held_bytes") == 0
        check_echo(other)


def wait_opened(running: Relay, control: Control, number: int) -> None:
    running.process.wait_until(lambda: control.metric("streams_opened_total") >= number, f"with {number} streams")
