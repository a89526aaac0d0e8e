"""Flow control, pure: who may send how much, and how windows grow and shrink under a memory budget.

Only payload of Data frames counts, and only a stream at a time: yamux has no window of the session. Credit once granted
cannot be taken back, so a window shrinks by not returning all of what was used.
"""

from __future__ import annotations

from common.yamux.config import INITIAL_WINDOW
from common.yamux.errors import LocalProtocolError

__all__ = ["LEAST_DELAY", "MemoryBudget", "ReceiveWindow", "SendWindow", "least_delay"]

_MOST_CREDIT = 0xFFFF_FFFF
"""hashicorp/yamux counts credit in a uint32; more than this would wrap around in it."""

LEAST_DELAY = 0.020
"""Seconds that count as the round trip when the measured one is shorter or not known. On a fast path it is not the wire
that delays credit but both ends' event loops, and their turns on a busy machine: with 5 ms, a loopback tunnel beside
other work stayed at 256 KiB, moved 0.3 instead of 1 GiB/s, and took three times the CPU a GiB at the receiver."""

_AMPLE = 1024 * 1024
_LEAST_DELAY_IF_AMPLE = 0.001
"""The same for a window of 1 MiB and more: that bridges both ends' turns, and what is added on a short path only lies
in queues. Each process on the way then always has something to do, so that small requests wait for a core at each of
them: beside a bulk download on 2 cores half of them took over 6.8 ms with 8 MiB, and over 4.6 ms with 1 MiB, at the
same MiB/s."""

_LEAST_GRANT = INITIAL_WINDOW // 2


def least_delay(size: int) -> float:
    """Seconds that count as the round trip for the growth of a window of `size` bytes, if the measured one is shorter
    or not known.
    """
    return LEAST_DELAY if size < _AMPLE else _LEAST_DELAY_IF_AMPLE


class MemoryBudget:
    """Bytes that receive windows may take beyond the 256 KiB which the protocol gives to every stream.

    The first three quarters are for whoever asks first. The rest is for those who hold less than their share, an equal
    part for each holder and one for who comes next; once it is touched, the budget is under pressure, and those who
    hold more than their share are to come down.

    Args:
        total: bytes.
        parent: a budget that must have room too: the process's, for a session's.
    """

    __slots__ = ("_holders", "_parent", "_total", "_used")

    def __init__(self, total: int, *, parent: MemoryBudget | None = None) -> None:
        self._total = total
        self._used = 0
        self._holders = 0
        self._parent = parent

    def __repr__(self) -> str:
        return f"<MemoryBudget {self._used} of {self._total} bytes, {self._holders} holders>"

    @property
    def total(self) -> int:
        """Bytes that may be reserved."""
        return self._total

    @property
    def used(self) -> int:
        """Bytes reserved now."""
        return self._used

    @property
    def holders(self) -> int:
        """Windows that hold a reservation now."""
        return self._holders

    @property
    def share(self) -> int:
        """Bytes that a holder may keep under pressure."""
        return self._total // (self._holders + 1)

    def is_excessive(self, held: int) -> bool:
        """Whether a holder of `held` bytes is to come down, here or above."""
        pressed = self._used * 4 > self._total * 3
        return (pressed and held > self.share) or (self._parent is not None and self._parent.is_excessive(held))

    def reserve(self, n: int, *, held: int) -> bool:
        """Reserve `n` bytes more here and above, or nothing, for a window that holds `held`."""
        used = self._used + n
        if used > self._total or (used * 4 > self._total * 3 and held + n > self.share):
            return False
        if self._parent is not None and not self._parent.reserve(n, held=held):
            return False
        self._used = used
        self._holders += not held
        return True

    def release(self, n: int, *, held: int) -> None:
        """Give back `n` bytes, here and above, of the `held` that a window holds."""
        self._used -= n
        self._holders -= n == held
        if self._parent is not None:
            self._parent.release(n, held=held)


class SendWindow:
    """What we may send on a stream.

    1. It starts at 256 KiB.
    2. Each payload byte sent takes one; it never goes below 0, since at most `available` is sent.
    3. Each WindowUpdate adds its length; beyond 2^32 - 1 the peer is wrong.
    """

    __slots__ = ("available",)

    def __init__(self) -> None:
        self.available = INITIAL_WINDOW

    def granted(self, n: int) -> bool:
        """The peer granted `n` bytes; False, and nothing changed, if that is more than can be."""
        if self.available + n > _MOST_CREDIT:
            return False
        self.available += n
        return True


class ReceiveWindow:
    """What the peer may send on a stream, and when it is told.

    At every moment `size = available + unconsumed + owed`: a byte of the window is either credit that the peer holds, a
    payload byte that our side has not dealt with, or credit to return. The cases:

    1. The stream opens: available is 256 KiB, by the protocol. A larger initial window owes the rest, which goes out
       with the SYN or ACK, if the budget has it.
    2. Payload arrives: available to unconsumed. More than available: the peer overran, nothing changes.
    3. Our side consumes: unconsumed to owed.
    4. Owed has reached a quarter of the size, and 128 KiB: it is granted, owed to available. What is owed and not yet
       granted is missing on the path, so more than a quarter would hold it back; less would be more frames, and wake
       both ends more often, for nothing.
    5. At a grant, when a window's worth was used up within two round trips, the size doubles: the path can carry more
       than the window lets it. The growth is reserved in the budget, or it does not happen. A whole window is looked
       at, never a part: what waited for a slow reader is used up in a moment, and only the wait before it tells. After
       two round trips without a grant the measuring starts anew, so that a stream that idled loses no time.
    6. At a grant under memory pressure, a window that holds more than its share is halved instead, by keeping what is
       owed.
    7. The stream is over: what was reserved is released.
    """

    __slots__ = ("_budget", "_due", "_granted_at", "_limit", "_since", "_used", "available", "owed", "size")

    def __init__(self, initial: int, limit: int, budget: MemoryBudget, now: float) -> None:
        self.available = INITIAL_WINDOW
        self.size = INITIAL_WINDOW
        self.owed = 0
        self._limit = limit
        self._budget = budget
        self._due = _LEAST_GRANT
        """What is owed when it is due (case 4)."""
        self._granted_at = now
        self._since = now
        """Since when `used` is counted (case 5)."""
        self._used = 0
        if initial > INITIAL_WINDOW:
            self._grow(initial - INITIAL_WINDOW)

    def __repr__(self) -> str:
        return f"<ReceiveWindow {self.size}: {self.available} granted, {self.unconsumed} unconsumed, {self.owed} owed>"

    @property
    def unconsumed(self) -> int:
        """Bytes received and not yet consumed."""
        return self.size - self.available - self.owed

    def received(self, n: int) -> bool:
        """`n` payload bytes arrived; False, and nothing changed, if the peer may not send as many."""
        if n > self.available:
            return False
        self.available -= n
        return True

    def consumed(self, n: int) -> bool:
        """`n` bytes are dealt with. Returns whether credit is due (case 4).

        Raises:
            LocalProtocolError: fewer were received, or `n` is negative; nothing changed.
        """
        owed = self.owed + n
        if n < 0 or owed > self.size - self.available:
            raise LocalProtocolError(f"{n} bytes consumed, but {self.unconsumed} are there to be")
        self.owed = owed
        return owed >= self._due

    def initial_grant(self) -> int:
        """The credit to put on SYN or ACK (case 1)."""
        grant, self.owed = self.owed, 0
        self.available += grant
        return grant

    def grant(self, now: float, round_trip: float) -> int:
        """Return what is owed to the peer, growing or shrinking first (cases 4 to 6). Call it when it is due.

        Args:
            now: the time.
            round_trip: seconds; `least_delay` counts if it is longer.

        Returns:
            The delta of the WindowUpdate to send; 0 if a shrinking window keeps all of it.
        """
        held = self.size - INITIAL_WINDOW
        if held and self._budget.is_excessive(held):
            self._shrink(min(self.owed, self.size // 2, held))
        elif self._is_fast(now, 2 * max(round_trip, least_delay(self.size))):
            self._grow(min(self.size, self._limit - self.size))
        grant, self.owed = self.owed, 0
        self.available += grant
        return grant

    def release(self) -> None:
        """The stream is over (case 7). Nothing else may be called afterwards."""
        held = self.size - INITIAL_WINDOW
        if held:
            self.size = INITIAL_WINDOW
            self._budget.release(held, held=held)

    def _is_fast(self, now: float, limit: float) -> bool:
        """Whether a window's worth has been used up, at a pace of one in less than `limit` seconds."""
        idle, self._granted_at = now - self._granted_at, now
        self._used += self.owed
        if idle <= limit and self._used < self.size:
            return False
        fast = (now - self._since) * self.size < limit * self._used
        self._since = now
        self._used = 0
        return fast

    def _grow(self, n: int) -> None:
        if n > 0 and self._budget.reserve(n, held=self.size - INITIAL_WINDOW):
            self._resize(n)

    def _shrink(self, n: int) -> None:
        self._budget.release(n, held=self.size - INITIAL_WINDOW)
        self._resize(-n)

    def _resize(self, n: int) -> None:
        self.size += n
        self.owed += n
        self._due = max(self.size // 4, _LEAST_GRANT)
