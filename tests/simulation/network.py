"""The network of a simulation: connections whose every property and fault is decided by a seed.

    Site          a device's place in the network: a `Way` in each direction, and the connections made over them
    Way           delay, jitter, bandwidth and segments; may be stalled, and outlives connections
    Connection    two `End`s joined by two `Pipe`s
    End           what one side holds: a `common.tunnel.on_trio.transport.Transport`

The rules are those of TCP as Linux keeps them, as far as a program can see them: `send` takes what fits into a buffer;
what is received comes in other pieces than it was sent; an orderly close ends one direction after what was sent; bytes
for a closed end, or a close with unread bytes, cause a reset; a reset loses what is under way. A device that loses
power says nothing.
"""

from __future__ import annotations

import errno
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

import trio

from common.tunnel.stream import Buffer

__all__ = ["Accept", "Connection", "Direction", "End", "Network", "Pipe", "Quality", "Site", "Way"]

TINY_SEGMENTS = 4096
"""Bytes at the start of a connection that may come in very small pieces: the handshake and the first frames. All of a
transfer in such pieces would take the processor's time and show nothing more."""


class Direction(StrEnum):
    """Which way."""

    UP = "up"
    """From the device to the relay."""
    DOWN = "down"

    @property
    def opposite(self) -> Direction:
        return Direction.DOWN if self is Direction.UP else Direction.UP


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How a way carries bytes."""

    delay: float = 0.01
    """Seconds."""
    jitter: float = 0.0
    """Seconds that a segment may take longer; the order is kept."""
    bandwidth: float = math.inf
    """Bytes a second."""
    segment: int = 64 * 1024
    """Bytes of a segment at most; each has a random size."""
    send_buffer: int = 256 * 1024
    """Bytes that the sender's kernel takes before it says that it is full."""


class Way:
    """One direction of a device's way to the relay."""

    def __init__(self, quality: Quality) -> None:
        self.quality = quality
        self._stalled: trio.Event | None = None

    def stall(self) -> None:
        """Nothing passes until `heal`; nobody is told."""
        if self._stalled is None:
            self._stalled = trio.Event()

    def heal(self) -> None:
        """What was held passes."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    async def passable(self) -> None:
        """Wait while stalled."""
        while self._stalled is not None:
            await self._stalled.wait()


class _Mark(Enum):
    """What comes in order behind the bytes of a pipe."""

    FIN = "fin"
    RST = "rst"


class Pipe:
    """One direction of a connection: the sender's buffer, what is under way, and the receiver.

    Args:
        way: carries it.
        rng: cuts it into segments.
    """

    def __init__(self, way: Way, rng: random.Random) -> None:
        self.way = way
        self.receiver: End
        self.sent = 0
        """Bytes that have left the sender's buffer."""
        self._rng = rng
        self._outgoing = bytearray()
        self._mark: _Mark | None = None  # follows what is outgoing
        self._under_way: deque[tuple[float, bytes | _Mark]] = deque()
        self._last_arrival = 0.0
        self._work = trio.Event()
        self._arrivals = trio.Event()
        self._triggers: list[tuple[int, Callable[[Pipe], None]]] = []
        self._corrupt: int | None = None
        self._swallow = False

    @property
    def room(self) -> int:
        """Bytes that the sender's buffer takes."""
        return max(0, self.way.quality.send_buffer - len(self._outgoing))

    def put(self, buffers: Sequence[Buffer]) -> int:
        """Take what fits."""
        room = self.room
        taken = 0
        for buffer in buffers:
            piece = memoryview(buffer)[: room - taken]
            self._outgoing += piece
            taken += len(piece)
            if taken == room:
                break
        if taken:
            self._work.set()
        return taken

    def finish(self) -> None:
        """No more will come: FIN, behind what waits."""
        if self._mark is None:
            self._mark = _Mark.FIN
            self._work.set()

    def reset(self) -> None:
        """RST, before what waits."""
        if self._mark is not _Mark.RST:
            self._mark = _Mark.RST
            self._outgoing.clear()
            self._work.set()

    def at(self, offset: int, act: Callable[[Pipe], None]) -> None:
        """Have something done when `offset` bytes have been sent."""
        self._triggers.append((offset, act))
        self._triggers.sort(key=lambda trigger: trigger[0])

    def corrupt_next(self, mask: int) -> None:
        """Change bits of the next byte: XOR with `mask`, or a zero byte if it is 0."""
        self._corrupt = mask

    def half_close(self) -> None:
        """As a middlebox does: the receiver is told the end, and what the sender still sends goes nowhere."""
        self._schedule(_Mark.FIN)
        self._swallow = True

    async def transmit(self) -> None:
        """Take segments out of the sender's buffer."""
        while True:
            if not self._outgoing:
                if self._mark is not None:
                    await self.way.passable()
                    self._schedule(self._mark)
                    if self._mark is _Mark.RST:
                        return
                    self._mark = None
                self._work = trio.Event()
                await self._work.wait()
                continue
            while self._triggers and self._triggers[0][0] <= self.sent:
                self._triggers.pop(0)[1](self)
            size = self._size()
            bandwidth = self.way.quality.bandwidth
            if bandwidth < math.inf:
                await trio.sleep(size / bandwidth)
            await self.way.passable()
            segment = bytearray(self._outgoing[:size])
            if not segment:  # dropped by a reset meanwhile
                continue
            del self._outgoing[:size]
            if self._corrupt is not None:
                segment[0] = segment[0] ^ self._corrupt if self._corrupt else 0
                self._corrupt = None
            self.sent += len(segment)
            self._schedule(bytes(segment))
            self.receiver.peer.room_made()

    async def deliver(self) -> None:
        """Hand over what has come through."""
        while True:
            while not self._under_way:
                self._arrivals = trio.Event()
                await self._arrivals.wait()
            arrival, what = self._under_way[0]
            await trio.sleep_until(arrival)
            await self.way.passable()
            self._under_way.popleft()
            if what is _Mark.RST:
                self.receiver.break_off()
            elif what is _Mark.FIN:
                self.receiver.end()
            else:
                assert isinstance(what, bytes)
                self.receiver.arrive(what)

    def _size(self) -> int:
        size = len(self._outgoing)
        if self._triggers:
            size = min(size, self._triggers[0][0] - self.sent)
        if self._rng.random() < 0.5:
            limit = self.way.quality.segment if self.sent > TINY_SEGMENTS else min(self.way.quality.segment, 600)
            size = min(size, self._rng.randint(1, limit))
        return min(size, 64 * 1024)

    def _schedule(self, what: bytes | _Mark) -> None:
        if self._swallow:
            return
        quality = self.way.quality
        arrival = trio.current_time() + quality.delay + self._rng.uniform(0.0, quality.jitter)
        self._last_arrival = max(self._last_arrival, arrival)
        self._under_way.append((self._last_arrival, what))
        self._arrivals.set()


class End:
    """One side of a connection. Implements `Transport`."""

    unsent = 0

    def __init__(self, connection: Connection, out: Pipe, rng: random.Random) -> None:
        self.peer: End
        self.closed = False
        self.gone = False
        """Its machine has no power."""
        self.last_arrival = trio.current_time()
        """When bytes last came, or the connection was made."""
        self.out = out
        self._connection = connection
        self._rng = rng
        self._inbox: deque[bytes] = deque()
        self._eof = False
        self._broken = False
        self._readable = trio.Event()
        self._writable = trio.Event()

    # Transport

    def receive_nowait(self) -> bytes | None:
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        if self._inbox:
            if len(self._inbox) > 1 and self._rng.random() < 0.5:
                data = b"".join(self._inbox)
                self._inbox.clear()
                return data
            return self._inbox.popleft()
        if self._broken:
            raise ConnectionResetError(errno.ECONNRESET, "reset by the peer")
        return b"" if self._eof else None

    async def wait_readable(self) -> None:
        while not (self._inbox or self._broken or self._eof or self.closed):
            self._readable = trio.Event()
            await self._readable.wait()
        await trio.lowlevel.checkpoint()

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        if self.closed or self._broken:
            raise BrokenPipeError(errno.EPIPE, "broken")
        return self.out.put(buffers)

    async def wait_writable(self) -> None:
        while not (self.out.room or self._broken or self.closed):
            self._writable = trio.Event()
            await self._writable.wait()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        if not (self.gone or self._broken):
            if self._inbox:
                self.out.reset()
            else:
                self.out.finish()
        self._wake()
        self._connection.look()

    # The pipes.

    def arrive(self, data: bytes) -> None:
        """Bytes have come."""
        if self.gone:
            return
        self.last_arrival = trio.current_time()
        if self.closed:
            self.out.reset()
        elif not (self._broken or self._eof):
            self._inbox.append(data)
            self._readable.set()

    def end(self) -> None:
        """The peer's FIN has come."""
        if not self.gone:
            self._eof = True
            self._readable.set()
            self._connection.look()

    def break_off(self) -> None:
        """A reset has come."""
        if not self.gone:
            self._broken = True
            self._wake()
            self._connection.look()

    def room_made(self) -> None:
        """The buffer for what is sent has room again."""
        self._writable.set()

    @property
    def over(self) -> bool:
        """Nothing comes from here any more."""
        return self.gone or self.closed

    def _wake(self) -> None:
        self._readable.set()
        self._writable.set()


class Connection:
    """See the module.

    Args:
        site: of the device.
        number: of the site's connections, from 1.
    """

    def __init__(self, site: Site, number: int) -> None:
        self.site = site
        self.number = number
        self.name = f"{site.name}#{number}"
        self.pipes = {direction: Pipe(site.ways[direction], site.rng) for direction in Direction}
        self.device = End(self, self.pipes[Direction.UP], site.rng)
        self.relay = End(self, self.pipes[Direction.DOWN], site.rng)
        self.device.peer, self.relay.peer = self.relay, self.device
        self.pipes[Direction.UP].receiver = self.relay
        self.pipes[Direction.DOWN].receiver = self.device
        self._over = trio.Event()

    async def run(self) -> None:
        """Carry bytes until both ends are closed and what they said last has come through, or a while is over."""
        async with trio.open_nursery() as nursery:
            for pipe in self.pipes.values():
                nursery.start_soon(pipe.transmit)
                nursery.start_soon(pipe.deliver)
            await self._over.wait()
            nursery.cancel_scope.cancel()
        self.site.connections.remove(self)

    def look(self) -> None:
        """Over, once nobody holds an end."""
        if self.device.over and self.relay.over:
            self._over.set()

    def reset(self) -> None:
        """Both ends get a reset at once."""
        self.device.break_off()
        self.relay.break_off()

    def lose_device(self) -> None:
        """The device has no power: it says nothing more, and nothing that comes is answered."""
        self.device.gone = True
        self.look()

    def device_is_back(self) -> None:
        """The device has power again, and its kernel knows nothing of this connection."""
        self.relay.break_off()

    def lose_relay(self) -> None:
        """The relay's machine has no power."""
        self.relay.gone = True
        self.look()


Accept = Callable[[End, str], None]
"""Takes a connection, from a named address."""


class Site:
    """A device's place in the network.

    Args:
        name: of the device.
        qualities: of its ways.
        seed: of everything random here.
    """

    def __init__(self, name: str, qualities: dict[Direction, Quality], seed: str) -> None:
        self.name = name
        self.rng = random.Random(seed)
        self.ways = {direction: Way(qualities[direction]) for direction in Direction}
        self.connections: list[Connection] = []
        self.made = 0
        self.on_connection: Callable[[Connection], None] = lambda _: None
        """Told of each connection before a byte of it is sent."""


class Network:
    """Where sites meet the relay.

    Args:
        nursery: runs the connections.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.accept: Accept | None = None
        """The relay; None while nobody listens."""
        self.dark = False
        """Whether the relay's machine has no power, so that a dial gets no answer at all."""

    async def connect(self, site: Site) -> End:
        """A connection to the relay.

        Raises:
            ConnectionRefusedError: nobody listens.
        """
        up, down = (site.ways[direction] for direction in Direction)
        await up.passable()
        await trio.sleep(up.quality.delay)
        if self.dark:
            await trio.sleep_forever()
        if self.accept is None:
            await down.passable()
            await trio.sleep(down.quality.delay)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")
        site.made += 1
        connection = Connection(site, site.made)
        site.connections.append(connection)
        self._nursery.start_soon(connection.run)
        site.on_connection(connection)
        self.accept(connection.relay, connection.name)
        try:
            await down.passable()
            await trio.sleep(down.quality.delay)
        except BaseException:
            await connection.device.aclose()
            raise
        return connection.device
