"""Where a request of the relay meets the list of services: connect and accept, or refuse with a code.

One dispatcher serves every tunnel of the agent, so that its limit and its stop hold for all of them. It never raises
and never waits: each request that may be served gets a task, which connects and then carries the stream to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from common.tunnel.interfaces import PendingStream
from edge_agent.errors import StoppingError, StreamLimitError, TargetError
from edge_agent.services import Service, ServiceList
from edge_agent.splice import Splice
from edge_agent.targets import connect, no_answer

__all__ = ["DispatchStatistics", "Dispatcher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchStatistics:
    """What became of the requests so far."""

    streams: int
    """Being connected or carried now."""
    accepted: int
    refused: int
    abandoned: int
    """Given up by the relay before the service answered."""


class Dispatcher:
    """Serves the streams that the relay asks for.

    Args:
        services: the list; nothing else is ever connected to.
        nursery: where the streams' tasks live.
        max_streams: how many there may be at a time, those being connected included.
    """

    __slots__ = (
        "_abandoned",
        "_accepted",
        "_idle",
        "_max_streams",
        "_nursery",
        "_refused",
        "_services",
        "_stopping",
        "_streams",
    )

    def __init__(self, services: ServiceList, nursery: trio.Nursery, *, max_streams: int) -> None:
        self._services = services
        self._nursery = nursery
        self._max_streams = max_streams
        self._streams = 0
        self._accepted = 0
        self._refused = 0
        self._abandoned = 0
        self._stopping = False
        self._idle = trio.Event()
        self._idle.set()

    def handle(self, request: PendingStream) -> None:
        """Serve `request`, or refuse it. Called by the tunnel's reader."""
        try:
            service = self._admit(request)
        except TargetError as exc:
            self._refuse(request, exc)
            return
        if self._streams == 0:
            self._idle = trio.Event()
        self._streams += 1
        self._nursery.start_soon(self._serve, request, service)

    def stop(self) -> None:
        """Refuse every request from here on; those being served go on."""
        self._stopping = True

    async def wait_idle(self) -> None:
        """Wait until no stream is served."""
        await self._idle.wait()

    def statistics(self) -> DispatchStatistics:
        return DispatchStatistics(
            streams=self._streams, accepted=self._accepted, refused=self._refused, abandoned=self._abandoned
        )

    def _admit(self, request: PendingStream) -> Service:
        service = self._services.find(request.service)
        if self._stopping:
            raise StoppingError("the agent is stopping and takes no new streams")
        if self._streams >= self._max_streams:
            raise StreamLimitError(f"the agent carries {self._streams} streams, which is its limit")
        return service

    def _refuse(self, request: PendingStream, reason: TargetError) -> None:
        self._refused += 1
        request.refuse(reason.code, reason.detail)

    async def _serve(self, request: PendingStream, service: Service) -> None:
        sock = None
        try:
            timeout = min(service.connect_timeout, request.timeout)
            with trio.CancelScope(deadline=trio.current_time() + timeout) as dial:
                request.on_lost = dial.cancel
                try:
                    sock = await connect(service.target)
                except TargetError as exc:
                    self._refuse(request, exc)
                    return
            # Not only when the dial was stopped in time: a request that is lost in the turn in which the service was
            # reached has nobody left who would ever end its stream.
            if sock is None or dial.cancel_called:
                if sock is not None:
                    sock.close()
                if trio.current_time() < dial.deadline:
                    self._abandoned += 1
                else:
                    self._refuse(request, no_answer(service.target, timeout))
                return
            self._accepted += 1
            splice = Splice(sock, self._nursery)
            await splice.run(request.accept(splice))
        finally:
            self._streams -= 1
            if self._streams == 0:
                self._idle.set()
