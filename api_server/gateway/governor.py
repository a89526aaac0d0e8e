"""How much may pass: asked once for each request, after it is certain that it may go where it wants to, and told when
the request is over.

    admit ──> Ticket, which the client's connection holds      or an error, or (admit_nowait) "only `admit` can tell"
      Ticket.wait_open   a stream is about to be opened
      Ticket.reach       it goes to this device of several: or an error, as `admit`
      Ticket.pace        bytes have gone by: how long to wait before more
      Ticket.end         the request, or the raw connection, is over

With no limits set and nobody counting there are no tickets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from api_server.auth.interfaces import Identity
from api_server.gateway.errors import BodyTooLargeError, HeadTooLargeError
from api_server.gateway.requests import RequestHead
from api_server.gateway.targets import Target
from api_server.limits.limiter import Limiter
from api_server.limits.meters import Meter, Pace
from common.errors import HomeportError
from common.ids import TeamId

__all__ = ["Governor", "Ticket", "UsageCounter", "check_size"]

_NO_METERS: Final[tuple[Meter, ...]] = ()
_NO_PACES: Final[tuple[Pace, ...]] = ()


class UsageCounter(Protocol):
    """Counts what was used. No method may block or raise."""

    def count(
        self,
        team: TeamId,
        identity: Identity,
        route: str,
        status: int,
        requests: int,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """A request, or a raw connection, is over; or has come so far.

        Args:
            team: whose service it was for.
            identity: whose request it was.
            route: id of the route, or device and service; empty when nothing was reached.
            status: of the response; 0 for none.
            requests: 1, or 0 for one that goes on.
            bytes_in: from the client, heads included.
            bytes_out: to the client.
        """


class Ticket:
    """One request under way."""

    __slots__ = ("_device", "_governor", "_identity", "_meters", "_paces", "_reached", "_target", "max_body", "status")

    def __init__(
        self,
        governor: Governor,
        identity: Identity,
        target: Target,
        meters: Sequence[Meter],
        max_body: int,
    ) -> None:
        self._governor = governor
        self._identity = identity
        self._target = target
        self._meters = meters
        self._paces: Sequence[Pace] = (
            [meter.pace for meter in meters if meter.pace is not None] if meters else _NO_PACES
        )
        self._device: str | None = None
        self._reached: Sequence[Meter] = _NO_METERS
        """Of the device that was chosen of several."""
        self.max_body = max_body
        """Bytes; 0 for no limit of its own."""
        self.status = 0
        """Of the response, once it is known."""

    @property
    def paced(self) -> bool:
        """Whether its bytes are."""
        return bool(self._paces)

    async def wait_open(self) -> None:
        """A stream is about to be opened for it.

        Raises:
            TooManyOpensError: too soon after others.
        """
        if self._meters:
            await self._governor.limiter.wait_open(self._meters)

    def reach_nowait(self, device: str, head: RequestHead) -> bool:
        """The request is about to be sent to a device that was chosen of several, whose limits it has to keep, too.

        Returns:
            Whether it may; False when only `reach` can tell.

        Raises:
            HomeportError: as `Governor.admit_nowait`.
        """
        meters = self._meters_of(device, head)
        if meters and not self._governor.limiter.begin(meters):
            return False
        self._take(device, meters)
        return True

    async def reach(self, device: str, head: RequestHead) -> None:
        """The same, and wait for the shared counter if need be."""
        meters = self._meters_of(device, head)
        if meters:
            await self._governor.limiter.wait_begin(meters)
        self._take(device, meters)

    def _meters_of(self, device: str, head: RequestHead) -> Sequence[Meter]:
        if device == self._device:
            return _NO_METERS  # it is sent there again
        limiter = self._governor.limiter
        if self._reached:
            limiter.end(self._reached)
            paces = [meter.pace for meter in self._reached]
            self._paces = [pace for pace in self._paces if pace not in paces]
            self._reached = _NO_METERS
            self._device = None
        meters = limiter.of_device(self._target.team, device)
        _check_sizes(head, meters)
        return meters

    def _take(self, device: str, meters: Sequence[Meter]) -> None:
        self._device = device
        if not meters:
            return
        self._reached = meters
        for meter in meters:
            if meter.pace is not None:
                self._paces = [*self._paces, meter.pace]
            limit = meter.limits.max_body_bytes
            if limit is not None:
                self.max_body = min(self.max_body, limit) if self.max_body else limit

    def pace(self, size: int, now: float) -> float:
        """Bytes have gone by, either way. Returns the seconds to wait before more do."""
        return max(pace.spend(size, now) for pace in self._paces)

    def report(self, bytes_in: int, bytes_out: int) -> None:
        """So much has gone by, and it goes on."""
        self._governor.count(self._identity, self._target, self.status, bytes_in, bytes_out, requests=0)

    def end(self, bytes_in: int, bytes_out: int) -> None:
        """It is over."""
        if self._meters:
            self._governor.limiter.end(self._meters)
        if self._reached:
            self._governor.limiter.end(self._reached)
            self._reached = _NO_METERS
        self._governor.count(self._identity, self._target, self.status, bytes_in, bytes_out)


class Governor:
    """Applies the limits to the gateway, and tells what was used.

    Args:
        limiter: knows the limits.
        usage: counts; None for nobody.
        id_of: tells the id of a device that may be named otherwise, so that its limits hold whatever it is called.
    """

    __slots__ = ("_id_of", "_usage", "limiter")

    def __init__(
        self, limiter: Limiter, usage: UsageCounter | None = None, id_of: Callable[[TeamId, str], str] | None = None
    ) -> None:
        self.limiter = limiter
        self._usage = usage
        self._id_of = id_of

    def admit_nowait(self, identity: Identity, target: Target, head: RequestHead) -> Ticket | bool:
        """Let a request pass, if that can be decided without waiting.

        Returns:
            A ticket to `end`; True when none is needed; False when only `admit` can tell.

        Raises:
            BodyTooLargeError, HeadTooLargeError, LimitsUnavailableError, QuotaExceededError, TooManyStreamsError: it
                may not pass.
        """
        limiter = self.limiter
        if limiter.idle:
            return True if self._usage is None else Ticket(self, identity, target, _NO_METERS, 0)
        meters = self._meters(identity, target, head)
        try:
            max_body = _check_sizes(head, meters)
            if not limiter.begin(meters):
                return False
        except HomeportError as exc:
            self.count(identity, target, exc.status, len(head.received), 0)
            raise
        return Ticket(self, identity, target, meters, max_body)

    async def admit(self, identity: Identity, target: Target, head: RequestHead) -> Ticket | bool:
        """The same, and wait for the shared counter if need be."""
        if self.limiter.idle:
            return self.admit_nowait(identity, target, head)
        meters = self._meters(identity, target, head)
        try:
            max_body = _check_sizes(head, meters)
            await self.limiter.wait_begin(meters)
        except HomeportError as exc:
            self.count(identity, target, exc.status, len(head.received), 0)
            raise
        return Ticket(self, identity, target, meters, max_body)

    def count(
        self, identity: Identity, target: Target, status: int, bytes_in: int, bytes_out: int, *, requests: int = 1
    ) -> None:
        """A request is over; or goes on, with none in `requests`."""
        if self._usage is not None:
            self._usage.count(target.team, identity, _route_of(target, status), status, requests, bytes_in, bytes_out)

    def _meters(self, identity: Identity, target: Target, head: RequestHead) -> list[Meter]:
        device = target.device
        if device is not None and self._id_of is not None:
            device = self._id_of(target.team, device)
        return self.limiter.subjects(
            team=target.team, token=identity.id, route=target.route_id, address=head.caller.address, device=device
        )


def check_size(size: int, limit: int, ticket: Ticket | None) -> None:
    """Check how long a body is, or has become.

    Args:
        size: bytes.
        limit: of the gateway; 0 for none.
        ticket: that the request has; None for none, or none yet.

    Raises:
        BodyTooLargeError: it is longer than one of them allows.
    """
    if ticket is not None and ticket.max_body:
        limit = min(limit, ticket.max_body) if limit else ticket.max_body
    if 0 < limit < size:
        raise BodyTooLargeError(f"the body is longer than {limit} bytes")


def _check_sizes(head: RequestHead, meters: Sequence[Meter]) -> int:
    """Check how long a request is, as far as its head says it.

    Returns:
        Bytes that its body may have; 0 for no limit.

    Raises:
        BodyTooLargeError, HeadTooLargeError: it is too long for one of its subjects.
    """
    max_body = max_head = 0
    for meter in meters:
        limits = meter.limits
        if limits.max_body_bytes is not None and not 0 < max_body < limits.max_body_bytes:
            max_body = limits.max_body_bytes
        if limits.max_header_bytes is not None and not 0 < max_head < limits.max_header_bytes:
            max_head = limits.max_header_bytes
    if 0 < max_head < len(head.received):
        raise HeadTooLargeError(f"the request head is longer than {max_head} bytes")
    if 0 < max_body < (head.fields.framing.length or 0):
        raise BodyTooLargeError(f"the body is longer than {max_body} bytes")
    return max_body


def _route_of(target: Target, status: int) -> str:
    """What a request is counted under. A caller can make up names of devices, and none of them is worth a row."""
    if target.route_id is not None:
        return target.route_id
    service = getattr(target, "service", None)
    if target.device is None or service is None or status in (404, 502):
        return ""
    return f"{target.device}/{service}"
