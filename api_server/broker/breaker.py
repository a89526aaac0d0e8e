"""A circuit breaker (M. Nygard, "Release It!"): a provider that fails again and again is left alone for a while.

    closed   calls are made; `threshold` failures one after the other open it
    open     no call is made until a moment; each time that it opens again, that is twice as far away
    probing  one call is made: it closes the breaker, or opens it again

Time is passed in. Who was admitted says what came of it, once: `succeeded`, `failed`, or `forgotten` when it is not
known.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["TRANSITIONS", "Breaker", "Event", "State"]


class State(Enum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Event(Enum):
    """What happens to one."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FAILED_TOO_OFTEN = "failed_too_often"
    FORGOTTEN = "forgotten"
    TIME_IS_UP = "time_is_up"


TRANSITIONS: Final = {
    (State.CLOSED, Event.SUCCEEDED): State.CLOSED,
    (State.CLOSED, Event.FAILED): State.CLOSED,
    (State.CLOSED, Event.FAILED_TOO_OFTEN): State.OPEN,
    (State.CLOSED, Event.FORGOTTEN): State.CLOSED,
    (State.OPEN, Event.TIME_IS_UP): State.PROBING,
    # Calls that were under way when it opened.
    (State.OPEN, Event.SUCCEEDED): State.CLOSED,
    (State.OPEN, Event.FAILED): State.OPEN,
    (State.OPEN, Event.FORGOTTEN): State.OPEN,
    (State.PROBING, Event.SUCCEEDED): State.CLOSED,
    (State.PROBING, Event.FAILED): State.OPEN,
    (State.PROBING, Event.FORGOTTEN): State.OPEN,
}
"""A missing pair is an error of ours."""


class Breaker:
    """One provider's.

    Args:
        threshold: failures one after the other that open it.
        first: seconds that it is open the first time.
        longest: and at most.
    """

    __slots__ = ("_failures", "_first", "_longest", "_pause", "_threshold", "_until", "state")

    def __init__(self, *, threshold: int = 5, first: float = 5.0, longest: float = 60.0) -> None:
        self.state = State.CLOSED
        self._threshold = threshold
        self._first = first
        self._longest = longest
        self._failures = 0
        self._pause = first
        self._until = 0.0

    def __repr__(self) -> str:
        return f"<Breaker: {self.state.value}, {self._failures} failures>"

    def admit(self, now: float) -> float:
        """Seconds until a call may be made; none when it may be made now, and then the caller says what came of it."""
        if self.state is State.PROBING:
            return self._first
        if self.state is State.OPEN:
            if now < self._until:
                return self._until - now
            self._go(Event.TIME_IS_UP)
        return 0.0

    def succeeded(self) -> None:
        """A call that was admitted had an answer that is the provider's word, whatever it says."""
        self._go(Event.SUCCEEDED)
        self._failures = 0
        self._pause = self._first

    def failed(self, now: float) -> None:
        """It had none."""
        self._failures += 1
        before = self.state
        often = before is State.CLOSED and self._failures >= self._threshold
        self._go(Event.FAILED_TOO_OFTEN if often else Event.FAILED)
        if self.state is State.OPEN and before is not State.OPEN:
            self._until = now + self._pause
            self._pause = min(self._longest, self._pause * 2)

    def forgotten(self, now: float) -> None:
        """Nobody knows, because the call was given up."""
        before = self.state
        self._go(Event.FORGOTTEN)
        if before is State.PROBING:
            self._until = now

    def _go(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
