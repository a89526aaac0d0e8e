"""What must hold in every simulation, whatever the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from common.sessions.interfaces import SessionState
from tests.simulation.client import Outcome
from tests.simulation.device import CONNECT_TIMEOUT, DRAIN_GRACE
from tests.simulation.network import Site
from tests.simulation.relay import SimulatedRelay
from tests.simulation.scenario import HARD, DevicePlan, FaultKind, RelayFaultKind

__all__ = ["DEAD_AFTER", "Disturbances", "back_within", "silence_of_ends", "silence_of_sessions", "what_is_wrong"]

DEAD_AFTER = 15.0
"""Seconds in which a dead peer is found."""

CLOSING = 3.0
"""Seconds that a tunnel which has ended waits for the peer's answer to its close."""

SLACK = 0.1

OPEN_FAILURES = frozenset({"device_offline", "draining", "no_such_session", "service_timeout"})
"""What a client may be told while a device changes from one tunnel to the next."""


@dataclass
class Window:
    """A time in which requests may fail: from the beginning of a fault until the device must be back."""

    began: float
    until: float = math.inf
    grace: float | None = None
    """Seconds that open streams have, if this is a drain; None if they may break at once."""

    def excuses(self, outcome: Outcome) -> bool:
        """Whether a request may have failed in it."""
        if outcome.ended < self.began or outcome.started > self.until:
            return False
        if self.grace is None or outcome.ended >= self.began + self.grace:
            return True
        # Whoever is being drained opens no more streams; one that is open lives on until the grace is over.
        return not outcome.opened and outcome.code in OPEN_FAILURES


class Disturbances:
    """What happened to a device so far, and so what its clients have to bear.

    Args:
        plan: of the device.
    """

    def __init__(self, plan: DevicePlan) -> None:
        self.last = 0.0
        """When the last fault ended."""
        self.corrupted = False
        """Bytes were changed where nothing could notice: without TLS, whatever comes of it is as it was sent."""
        self._plan = plan
        # The first tunnel of all has to be made.
        self._windows = [Window(0.0, 5.0)]

    def began(self, kind: FaultKind | RelayFaultKind, grace: float = DRAIN_GRACE) -> Window:
        """A fault begins.

        Args:
            kind: what it is.
            grace: seconds that open streams have, if it is a drain.
        """
        if kind is FaultKind.CORRUPT and not self._plan.secure:
            self.corrupted = True
        window = Window(trio.current_time(), grace=None if kind in HARD else grace)
        self._windows.append(window)
        return window

    def ended(self, window: Window, after: float = 0.0) -> None:
        """A fault ends now, or in a while."""
        over = trio.current_time() + after
        self.last = max(self.last, over)
        window.until = over + back_within(self._plan)

    def excuse(self, outcome: Outcome) -> bool:
        """Whether a request may have failed, with a code."""
        if outcome.code == "over_capacity" and self._plan.max_streams < 10:
            return True
        return self.corrupted or any(window.excuses(outcome) for window in self._windows)


def what_is_wrong(outcome: Outcome, disturbances: Disturbances) -> str:
    """Empty if a request ended as it may."""
    if outcome.wrong and not disturbances.corrupted:
        return outcome.wrong
    if not outcome.ok and not disturbances.excuse(outcome):
        return f"failed with {outcome.code!r}, and nothing had happened to the device"
    return ""


def silence_of_sessions(relay: SimulatedRelay) -> Iterator[str]:
    """A session whose device has been silent for so long that it must have been found dead."""
    for tunnel in relay.store:
        if tunnel.state is not SessionState.DRAINING and tunnel.silence() > DEAD_AFTER + SLACK:
            yield f"{relay.name} takes {tunnel!r} for alive after {tunnel.silence():.1f} s of silence"


def silence_of_ends(site: Site) -> Iterator[str]:
    """The same by the network's own account, and of both ends: nobody holds a connection on which nothing comes."""
    now = trio.current_time()
    for connection in site.connections:
        for name, end in (("device", connection.device), ("relay", connection.relay)):
            if not end.over and now - end.last_arrival > DEAD_AFTER + CLOSING + SLACK:
                yield f"the {name}'s end of {connection.name} is open after {now - end.last_arrival:.1f} s of silence"


def back_within(plan: DevicePlan) -> float:
    """Seconds from the end of the last fault until a device is in service at the latest.

    It may have to find out that its tunnel is dead, and wait for its turn; the attempt that was under way may fail by
    its timeout, and have its turn again.
    """
    return DEAD_AFTER + 2 * (CONNECT_TIMEOUT + plan.retry_maximum) + 15.0
