"""Whose turn it is, when a relay has more to move than its loop can: teams in turn, and in each team its devices.

A loop reads from whoever has something, and goes on reading from one connection while that has more: up to 32 reads of
256 KiB with libuv, 8 MiB and some ten milliseconds before the next one is looked at. That is well while there is little
to do, and lets the busy crowd the others out when there is much.

    free       every connection is read as the loop likes, until one turn of the loop has moved `TURN` bytes
    contended  whoever moves much waits for its turn after each read: one device of each team a turn of the loop

The turn is contended when more than one wait for it, and free again when no more than one does. What is small
(`COUNTED`) never waits, so that a request of a quiet device waits for one read of each busy team at most, however many
devices these have. All reads are of one size when there is more to read than that, so turns are fair in bytes as well;
deficits (Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995) would count what is equal.

The measure is bytes, not time: what makes a turn of the loop long is what it moves, and bytes come out the same in
every run. A turn that moves less than 16 KiB a connection costs nothing here, one that moves more a deferred call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

__all__ = ["COUNTED", "TURN", "Turns", "Waiter"]

TURN = 1024 * 1024
"""Bytes that one turn of the loop moves before anybody waits: about a millisecond and a half of a core."""

COUNTED = 16 * 1024
"""Bytes moved at once from which on they count."""

_ALONE = 4
"""Devices that go on in one turn of the loop while they are all of one team: waking up costs less for several."""


class Waiter(Protocol):
    """Something that moves bytes: a tunnel that is read from, or a client's stream."""

    def go_on(self) -> None:
        """Move again. It may be over by now."""


class _Queue:
    """Waiters of one team: its devices in turn, and those of each device in turn."""

    __slots__ = ("_devices",)

    def __init__(self) -> None:
        self._devices: dict[Hashable, deque[Waiter]] = {}

    def __len__(self) -> int:
        """Devices with something that waits."""
        return len(self._devices)

    def add(self, device: Hashable, waiter: Waiter) -> None:
        waiting = self._devices.get(device)
        if waiting is None:
            waiting = self._devices[device] = deque()
        waiting.append(waiter)

    def next(self) -> Waiter:
        device = next(iter(self._devices))
        waiting = self._devices.pop(device)
        waiter = waiting.popleft()
        if waiting:
            self._devices[device] = waiting  # behind the others
        return waiter


class Turns:
    """Hands out turns.

    Args:
        call_soon: calls a function in the next turn of the loop, after all that is read in this one.
    """

    __slots__ = ("_call_soon", "_contended", "_is_due", "_moved", "_teams", "_waiting", "waits")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._teams: dict[str, _Queue] = {}
        self._waiting = 0
        self._moved = 0
        self._is_due = False
        self._contended = False
        self.waits = 0
        """How often somebody had to wait for its turn, so far."""

    def __repr__(self) -> str:
        return f"<Turns {'contended' if self._contended else 'free'}, {self._waiting} waiting>"

    def moved(self, size: int, waiter: Waiter, device: Hashable, team: str) -> bool:
        """Note that `waiter` has moved `size` bytes, `COUNTED` or more. Returns whether it is to stop now; it is then
        told to go on when its turn has come.
        """
        self._moved += size
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._turn)
        if not self._contended and self._moved <= TURN:
            return False
        queue = self._teams.get(team)
        if queue is None:
            queue = self._teams[team] = _Queue()
        queue.add(device, waiter)
        self._waiting += 1
        self.waits += 1
        return True

    def _turn(self) -> None:
        self._is_due = False
        self._moved = 0
        self._contended = self._waiting > 1
        if not self._waiting:
            return
        self._is_due = True  # also for the next turn: until then all that moves belongs to this one
        self._call_soon(self._turn)
        teams = list(self._teams.items())
        for team, queue in teams:
            for _ in range(min(_ALONE, len(queue)) if len(teams) == 1 else 1):
                self._waiting -= 1
                queue.next().go_on()
            if not queue:
                del self._teams[team]
