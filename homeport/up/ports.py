"""Finds a taken port before four processes have started, and says which flag chooses another."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from homeport.up.errors import PortInUseError

__all__ = ["Listener", "check_free"]


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that a process will listen on."""

    what: str
    host: str
    port: int
    flag: str


def check_free(listeners: Iterable[Listener]) -> None:
    """Whether each could listen now. Only a check: between now and then somebody else may come.

    Raises:
        PortInUseError: at the first that could not.
    """
    taken: dict[int, Listener] = {}
    for listener in listeners:
        if listener.port == 0:
            continue
        twin = taken.setdefault(listener.port, listener)
        if twin is not listener:
            raise PortInUseError(
                f"port {listener.port} is meant for {twin.what} and for {listener.what}: give {listener.flag} another"
            )
        _try(listener)


def _try(listener: Listener) -> None:
    # Only the numeric form is tried: a name may stand for several addresses, and is the process's own business.
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((listener.host, listener.port))
        except OSError as exc:
            if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                return
            reason = "is in use" if exc.errno == errno.EADDRINUSE else "may not be used by this user"
            raise PortInUseError(
                f"port {listener.port}, for {listener.what}, {reason}: choose another by {listener.flag} "
                "(0 takes any free one)"
            ) from exc
