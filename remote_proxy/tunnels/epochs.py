"""Epochs: the fencing tokens that order the sessions of a device."""

from __future__ import annotations

from common.clock import Clock

__all__ = ["EpochSource"]


class EpochSource:
    """Hands out epochs that only rise, also across restarts of the relay.

    An epoch is the wall time in milliseconds, or one more than the last epoch where that is higher. So a session of
    this process outranks what a caller still remembers of the process before it, without any state on disk. It stays
    below 2**53, so that it survives JSON.
    """

    __slots__ = ("_clock", "_last")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """The epoch of a new session, higher than every one before it."""
        self._last = max(self._last + 1, int(self._clock.wall() * 1000))
        return self._last
