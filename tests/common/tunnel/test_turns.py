"""Who moves when there is more to move than a turn of the loop takes. Turns are counted, and nothing is timed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from common.tunnel.core import TunnelCore
from common.tunnel.on_asyncio.connection import SharedBufferConnection
from common.tunnel.turns import COUNTED, TURN, Turns
from tests.common.tunnel.pair import Pair

KIB = 1024
READ = 256 * KIB
READS_IN_A_ROW = 32
"""What libuv reads from one connection before it looks at the next (uv__read)."""


class FakeLoop:
    """Turns as libuv takes them: the calls that were put off, then whoever can be read."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []
        self.connections: list[Connection] = []
        self.turn = 0

    def call_soon(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def run(self, turns: int) -> None:
        for _ in range(turns):
            self.turn += 1
            due, self.due = self.due, []
            for call in due:
                call()
            for connection in list(self.connections):
                connection.read()


class FakeCore:
    """Of a tunnel: counts what it is given."""

    finished = False
    deadline = 0.0

    def __init__(self, turns: Turns, team: str) -> None:
        self._turns = turns
        self._team = team
        self.received = 0

    def receive(self, data: memoryview) -> None:
        self.received += len(data)

    def moved(self, size: int, waiter: Any) -> bool:
        return self._turns.moved(size, waiter, self, self._team)


class Connection:
    """A connection with bytes to read: the transport of a real `SharedBufferConnection`."""

    def __init__(self, loop: FakeLoop, turns: Turns, team: str, backlog: int) -> None:
        self.core = FakeCore(turns, team)
        self.backlog = backlog
        self.reads: list[int] = []
        self._loop = loop
        self._paused = False
        buffer = memoryview(bytearray(READ))
        self._protocol = SharedBufferConnection(
            cast(TunnelCore, self.core),
            cast(asyncio.Transport, self),
            cast(asyncio.AbstractEventLoop, loop),
            buffer=buffer,
        )
        loop.connections.append(self)

    def read(self) -> None:
        for _ in range(READS_IN_A_ROW):
            if self._paused or not self.backlog:
                return
            size = min(self.backlog, READ)
            self.backlog -= size
            self.reads.append(self._loop.turn)
            self._protocol.buffer_updated(size)
            if size < READ:
                return

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused
        self._paused = False


class Stage:
    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.turns = Turns(self.loop.call_soon)

    def connect(self, team: str, backlog: int = 1 << 40) -> Connection:
        return Connection(self.loop, self.turns, team, backlog)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def received(connections: Sequence[Connection]) -> list[int]:
    return [connection.core.received for connection in connections]


@pytest.mark.parametrize("devices", [2, 5, 50])
def test_busy_devices_of_two_teams_get_alike(stage: Stage, devices: int) -> None:
    busy = [stage.connect(team) for team in ("red", "blue") for _ in range(devices)]
    stage.loop.run(40 * devices)
    shares = received(busy)
    assert min(shares) > 0
    assert max(shares) <= 2 * min(shares)


@pytest.mark.parametrize("crowd", [3, 100])
def test_a_team_of_many_gets_no_more_than_a_team_of_one(stage: Stage, crowd: int) -> None:
    many = [stage.connect("many") for _ in range(crowd)]
    one = stage.connect("one")
    stage.loop.run(10 * crowd)
    before, alone = sum(received(many)), one.core.received
    stage.loop.run(10 * crowd)
    assert 0.5 <= (sum(received(many)) - before) / (one.core.received - alone) <= 2
    shares = received(many)
    assert max(shares) <= 2 * min(shares)


def test_a_quiet_device_waits_for_one_read_of_each_busy_team(stage: Stage) -> None:
    teams = 3
    busy = [stage.connect(f"team-{number % teams}") for number in range(60)]
    quiet = stage.connect("team-0", backlog=0)
    stage.loop.run(100)  # contended by now
    for size in (200, COUNTED - 1):
        for _ in range(50):
            moved = sum(received(busy))
            quiet.backlog = size
            turn = stage.loop.turn
            stage.loop.run(1)
            assert quiet.reads[-1] == turn + 1  # in the very next turn, and behind no more than
            assert sum(received(busy)) - moved <= teams * READ
    assert stage.turns.waits > 0


def test_a_device_that_begins_to_move_much_has_its_turn_within_a_round(stage: Stage) -> None:
    busy = [stage.connect("busy") for _ in range(20)]
    stage.loop.run(50)
    late = stage.connect("other")
    stage.loop.run(5)
    assert late.core.received >= 4 * READ
    assert max(received(busy)) <= 2 * min(received(busy))


def test_one_device_alone_waits_for_nobody(stage: Stage) -> None:
    alone = stage.connect("home")
    stage.loop.run(100)
    assert alone.core.received >= 100 * TURN


def test_what_is_left_when_the_others_are_done_is_free_again(stage: Stage) -> None:
    lasting = stage.connect("home")
    others = [stage.connect("home", backlog=20 * READ) for _ in range(3)]
    stage.loop.run(200)
    assert all(not connection.backlog for connection in others)
    before = lasting.core.received
    stage.loop.run(100)
    assert lasting.core.received - before >= 100 * TURN


def test_little_traffic_is_left_alone(stage: Stage) -> None:
    few = [stage.connect("home", backlog=0) for _ in range(TURN // (64 * KIB))]
    for _ in range(20):
        for connection in few:
            connection.backlog = 64 * KIB
        stage.loop.run(1)
        assert not any(connection.backlog for connection in few)
    assert stage.turns.waits == 0


def test_nothing_is_left_to_call_when_all_is_quiet(stage: Stage) -> None:
    for _ in range(5):
        stage.connect("home", backlog=10 * READ)
    stage.loop.run(100)
    assert stage.loop.due == []
    assert repr(stage.turns) == "<Turns free, 0 waiting>"


class Client:
    """A client of one stream, whose connection always has more: sends a read's worth whenever it is let."""

    def __init__(self, pair: Pair, device: str, moved: Counter[str]) -> None:
        self.near, self.far = pair.open()
        self._device = device
        self._moved = moved

    def send(self) -> None:
        if not self.near.writing_paused:
            self.near.write(bytes(200 * KIB))
            self._moved[self._device] += 200 * KIB


def test_clients_that_send_take_turns_by_device_and_not_by_stream() -> None:
    loop = FakeLoop()
    turns = Turns(loop.call_soon)
    moved: Counter[str] = Counter()
    pairs = {"many": Pair(), "few": Pair()}
    clients = []
    for (name, pair), streams in zip(pairs.items(), (20, 1), strict=True):
        pair.relay_core.take_turns(turns, "home")
        clients += [Client(pair, name, moved) for _ in range(streams)]
    for _ in range(200):
        loop.run(1)
        for client in clients:
            client.send()
        for pair in pairs.values():
            pair.pump()
    assert moved["few"] > 10 * 200 * KIB
    assert 0.5 <= moved["many"] / moved["few"] <= 2
    # And everybody is let go in the end.
    for _ in range(50):
        loop.run(1)
        for pair in pairs.values():
            pair.pump()
    assert not any(client.near.writing_paused for client in clients)
    assert loop.due == []


def test_a_stream_whose_turn_has_come_waits_on_while_its_peer_takes_nothing() -> None:
    loop = FakeLoop()
    turns = Turns(loop.call_soon)
    pair = Pair()
    pair.relay_core.take_turns(turns, "home")
    near, far = pair.open()
    assert far.stream is not None
    far.stream.pause_reading()
    near.write(bytes(TURN + 1))
    assert near.writing_paused
    pair.pump()
    for _ in range(5):
        loop.run(1)
        pair.pump()
        assert near.writing_paused
    far.stream.resume_reading()
    pair.pump()
    assert not near.writing_paused
    assert len(far.received) == TURN + 1


def test_a_stream_that_ends_while_it_waits_for_its_turn_is_forgotten() -> None:
    loop = FakeLoop()
    turns = Turns(loop.call_soon)
    pair = Pair()
    pair.relay_core.take_turns(turns, "home")
    near, _ = pair.open()
    near.write(bytes(TURN + 1))
    assert near.stream is not None
    near.stream.reset()
    pair.pump()
    loop.run(3)
    assert repr(turns) == "<Turns free, 0 waiting>"
