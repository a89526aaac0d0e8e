"""Which of the devices that routes share are there, and which of their services are well, as the relay tells.

It is a hint: a device of which nothing was heard is tried like any other. Implements `EventListener`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from api_server.relay.events import EventKind, SessionEvent
from common.ids import ServiceName
from common.sessions.interfaces import SessionState, Summary

__all__ = ["DevicePresence"]

_UNHEALTHY: Final = "unhealthy"
"""What an agent says of a service whose check fails (`common.wire.messages.Health`)."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was last heard of a device."""

    epoch: int
    there: bool
    """It has a session, and takes new streams."""
    unwell: frozenset[str]
    """Services that do not answer, as its agent says."""


class DevicePresence:
    """Remembers what was heard of the devices that are watched."""

    __slots__ = ("_seen", "_watched")

    def __init__(self) -> None:
        self._watched: frozenset[str] = frozenset()
        self._seen: dict[str, _Seen] = {}

    def watch(self, devices: Iterable[str]) -> None:
        """From now on, remember what is heard of these, by id, and of no others."""
        self._watched = frozenset(devices)
        for device in self._seen.keys() - self._watched:
            del self._seen[device]

    def usable(self, device: str, service: ServiceName) -> bool:
        """Whether nothing speaks against the service of a device."""
        seen = self._seen.get(device)
        return seen is None or (seen.there and service not in seen.unwell)

    # EventListener

    def session_changed(self, event: SessionEvent) -> None:
        session = event.session
        if session.device not in self._watched:
            return
        known = self._seen.get(session.device)
        # A late event of an older session says nothing of the one that is there.
        if known is None or known.epoch <= session.epoch:
            self._seen[session.device] = _seen(session, there=event.type != EventKind.OFFLINE)

    def events_lost(self) -> None:
        self._seen.clear()


def _seen(session: Summary, *, there: bool) -> _Seen:
    unwell = frozenset(name for name, health in session.services.items() if health == _UNHEALTHY)
    return _Seen(session.epoch, there and session.state is not SessionState.DRAINING, unwell)
