"""What a request can be sent to, and where its streams come from.

    Target ──────── ServiceTarget    a device's service, named by path or host
      │        └─── RoutedTarget     what an entry of the route table leads to
      ├─ streams    StreamSource     DeviceStreams, ...: where a stream comes from is a type, and no `if` anywhere
      └─ credential UpstreamCredential, or none

A source belongs to one target: it knows by itself which device, devices or backend it leads to. What it gives is used
as a `ServiceStream`, goes back to it by `put` or `retire` once its exchange is complete, and is reset by whoever holds
it when that is not so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from common.ids import ServiceName, TeamId
from common.sessions.interfaces import OpenOptions
from common.tunnel.stream import Buffer, Stream, StreamSink

if TYPE_CHECKING:
    from api_server.gateway.cors import CorsPolicy

__all__ = [
    "RoutedTarget",
    "ServiceStream",
    "ServiceTarget",
    "StreamSource",
    "Target",
    "UpstreamCredential",
]


class ServiceStream(Stream, Protocol):
    """A stream to whatever answers a request, as the gateway uses it."""

    used: int
    """How often it has served: 0 for a fresh one. One that has may be stale, and the request goes out again then."""
    idle_since: float
    """When its source got it back; seconds, monotonic."""

    @property
    def reusable(self) -> bool:
        """Whether another request may be written to it: open both ways, nothing held, nothing paused."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        ...

    def attach(self, sink: StreamSink | None) -> None:
        """Make `sink` the receiver of all that comes from now on, and of what was held for it. With None it is held
        until the next one.
        """

    def write_all(self, buffers: list[Buffer]) -> None:
        """Write buffers by one system call, without joining them."""

    def count_unacknowledged(self) -> int:
        """Bytes that were written and have not arrived at the next hop, those in our kernel included."""
        ...


class StreamSource(Protocol):
    """Where the streams of one target come from.

    Errors of `get`, `dial` and `redial` are those of `Handle.open_stream`, or of the kind of source: each a
    `HomeportError` that is the answer to the client.
    """

    def take(self, now: float, max_idle: float | None) -> ServiceStream | None:
        """An idle stream, without waiting; None if there is none, or if only `get` can tell.

        Args:
            now: seconds, monotonic.
            max_idle: seconds that it may have been idle at most; None for any time.

        Raises:
            HomeportError: it is known that there is none to be had.
        """
        ...

    async def get(self, now: float, max_idle: float | None, options: OpenOptions) -> ServiceStream:
        """A stream: an idle one as `take` has it, else a fresh one."""
        ...

    async def dial(self, options: OpenOptions) -> ServiceStream:
        """A fresh stream."""
        ...

    async def redial(self, stale: ServiceStream, options: OpenOptions) -> ServiceStream:
        """A fresh stream to the very place where one led that was found closed when a request was written to it: some
        of the request may have got there.
        """
        ...

    def device_of(self, stream: ServiceStream) -> str | None:
        """Id of the device that was chosen of several for a stream; None where there is no choice."""
        ...

    def put(self, stream: ServiceStream, now: float) -> None:
        """Keep a stream whose last exchange is complete for another."""
        ...

    def retire(self, stream: ServiceStream, now: float) -> None:
        """End a stream whose last exchange is complete and that shall not be used again."""
        ...


class UpstreamCredential(Protocol):
    """What a request shows to the service or backend, in the place of anything that the caller shows there."""

    @property
    def hides(self) -> re.Pattern[bytes]:
        """Matches the lines of a field section that are left out, each with its end: those of the same name."""
        ...

    @property
    def renewable(self) -> bool:
        """Whether there may be another one when the service or backend answers 401."""
        ...

    @property
    def by_carrier(self) -> bool:
        """Whether that name is one of those that may say who asks, which are cut out of every section (`sections`)."""
        ...

    def lines_nowait(self) -> bytes | None:
        """The lines to add, each with its end; None when only `lines` can tell."""
        ...

    async def lines(self) -> bytes:
        """The lines to add.

        Raises:
            HomeportError: it cannot be had: the request is not sent.
        """
        ...

    async def renew(self, refused: bytes) -> bytes:
        """The lines to add now that the service or backend has answered 401 to `refused`, if it is `renewable`.

        Raises:
            HomeportError: there are none that could fare better.
        """
        ...


class Target(Protocol):
    """What a request can be sent to."""

    @property
    def team(self) -> TeamId:
        """Whose it is."""
        ...

    @property
    def device(self) -> str | None:
        """Id or name of the one device; None when there are several, or none."""
        ...

    @property
    def name(self) -> str | None:
        """Of the route; None without one."""
        ...

    @property
    def route_id(self) -> str | None:
        """Of the route; None without one."""
        ...

    @property
    def tags(self) -> frozenset[str]:
        """Of the route."""
        ...

    @property
    def raw(self) -> bool:
        """Raw TCP is asked for, not HTTP."""
        ...

    @property
    def prefix(self) -> bytes:
        """What is taken off the path; empty for nothing."""
        ...

    @property
    def realm(self) -> str:
        """The protection space for HTTP authentication: each service its own, so that a browser does not hand the
        credential that it was given for one to the page of another (RFC 9110 section 11.5).
        """
        ...

    @property
    def streams(self) -> StreamSource:
        """Where streams to it come from."""
        ...

    @property
    def host(self) -> bytes | None:
        """What is asked of it as Host; None for what the client asked for."""
        ...

    @property
    def credential(self) -> UpstreamCredential | None:
        """What is shown to it; None for nothing."""
        ...

    @property
    def cors(self) -> CorsPolicy | None:
        """Which other origins' pages may read it; None: the service says so itself."""
        ...

    @property
    def inspect(self) -> bool:
        """Whether requests to it are recorded for the inspector."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A service of a device, by its own path or host."""

    team: TeamId
    device: str
    """Its id or name."""
    service: ServiceName
    raw: bool
    prefix: bytes
    streams: StreamSource = field(compare=False, repr=False)

    name: ClassVar[None] = None
    route_id: ClassVar[None] = None
    tags: ClassVar[frozenset[str]] = frozenset()
    host: ClassVar[None] = None
    credential: ClassVar[None] = None
    cors: ClassVar[None] = None
    inspect: ClassVar[bool] = False

    @property
    def realm(self) -> str:
        return f"homeport {self.team}/{self.device}/{self.service}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedTarget:
    """What an entry of the route table leads to."""

    # First, so that a look into the table finds what it needs in one place of memory.
    strips: bool = True
    """What is asked of it is the path without the route's prefix."""
    base: bytes = b""
    """What goes before that path; without a slash at the end."""
    root: bytes = b"/"
    """What it is asked for when nothing is left of the path."""
    team: TeamId
    name: str
    route_id: str
    tags: frozenset[str]
    prefix: bytes
    streams: StreamSource = field(compare=False, repr=False)
    device: str | None = None
    host: bytes | None = None
    credential: UpstreamCredential | None = field(default=None, compare=False, repr=False)
    cors: CorsPolicy | None = None
    inspect: bool = False

    raw: ClassVar[bool] = False

    @property
    def realm(self) -> str:
        return f"homeport {self.team} {self.name}"

    def path_of(self, path: bytes, end: int) -> bytes:
        """What it is asked for.

        Args:
            path: of the request.
            end: where the route's prefix ends in it.
        """
        if not self.strips:
            return self.base + path
        if end == len(path):
            return self.root
        return self.base + path[end:] if self.base else path[end:]
