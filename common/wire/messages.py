"""What agent and relay say to each other in `homeport.v1`.

On the control stream, the first stream that the device opens, both ways:

    device -> relay   DeviceHello, then ServicesChanged and Stats at any time, Drain when the agent is going away
    relay -> device   RelayHello, then Drain at any time

At the start of each stream that the relay opens: StreamOpen from the relay, StreamAnswer from the device, then, when
the answer is ok, raw bytes both ways.

Growing the protocol. A field that a reader does not know is ignored, so a new field needs a default. A message type
that a reader does not know is ignored if its map says `"optional": true`, and is otherwise an error: a sender uses a
new mandatory type only towards a peer whose hello lists the capability. `version` in the hello names the newest version
that the sender speaks, `min_version` the oldest; a peer outside the range is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

__all__ = [
    "FROM_DEVICE",
    "FROM_RELAY",
    "PROTOCOL_VERSION",
    "STREAM_ANSWER",
    "STREAM_OPEN",
    "DeviceHello",
    "Drain",
    "Health",
    "Message",
    "MessageSet",
    "OpenRefusal",
    "RelayHello",
    "Service",
    "ServicesChanged",
    "Stats",
    "StreamAnswer",
    "StreamOpen",
]

PROTOCOL_VERSION = 1
"""The newest version of the messages that this code speaks."""

Version: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Label: TypeAlias = Annotated[str, Meta(max_length=128)]
"""Text for people: a software name, a code."""
Detail: TypeAlias = Annotated[str, Meta(max_length=1024)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=40)]
"""A service name; that it is one (`common.ids.is_name`) is for the reader to check."""
Seconds: TypeAlias = Annotated[float, Meta(ge=0.0, le=31_536_000.0)]
"""At most a year, so that arithmetic on it is safe."""
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the messages. `TYPE` is the value of the map's `type`."""

    TYPE: ClassVar[str]


class Health(StrEnum):
    """How a service of the device is doing."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class OpenRefusal(StrEnum):
    """Codes of a refused stream-open. A peer may send others; treat those as `FAILED`."""

    UNKNOWN_SERVICE = "unknown_service"
    """The device offers no service of that name."""
    CONNECTION_REFUSED = "connection_refused"
    """Nobody listens where the service should be."""
    UNREACHABLE = "unreachable"
    """The device could not connect to the service for another reason."""
    TIMEOUT = "timeout"
    """The service did not accept the connection in time."""
    OVER_CAPACITY = "over_capacity"
    """The device has as many connections as it may."""
    DRAINING = "draining"
    FAILED = "failed"


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service that the device offers."""

    name: Name
    kind: Label = "http"
    """`http`, `tcp` or `unix`; for people and for the gateway's choice of default. Others may come."""
    health: Label = Health.UNKNOWN
    """A `Health`, or a later word for it."""


Services: TypeAlias = Annotated[list[Service], Meta(max_length=256)]
Capabilities: TypeAlias = Annotated[list[Label], Meta(max_length=64)]


class DeviceHello(Message, frozen=True, kw_only=True):
    """The device's first message on the control stream."""

    TYPE: ClassVar[str] = "hello"

    version: Version = PROTOCOL_VERSION
    min_version: Version = 1
    software: Label
    """Name and version of the agent, such as `homeport-agent/0.1.0`."""
    capabilities: Capabilities = []
    services: Services = []


class RelayHello(Message, frozen=True, kw_only=True):
    """The relay's first message on the control stream."""

    TYPE: ClassVar[str] = "hello"

    version: Version = PROTOCOL_VERSION
    min_version: Version = 1
    software: Label
    capabilities: Capabilities = []
    session_id: Label
    epoch: Count
    probe_interval: Seconds = 5.0
    """Seconds of silence after which the relay probes."""
    dead_after: Seconds = 15.0
    """Seconds of silence after which the relay gives the tunnel up; the device does so too, if its own are more."""
    max_streams: Count = 1024


class ServicesChanged(Message, frozen=True, kw_only=True):
    """The whole list of services, again: one was added or removed, or its health changed."""

    TYPE: ClassVar[str] = "services"

    services: Services


class Stats(Message, frozen=True, kw_only=True):
    """Figures of the device, now and then. Optional: a peer may ignore it."""

    TYPE: ClassVar[str] = "stats"

    uptime: Seconds = 0.0
    streams: Count = 0
    streams_total: Count = 0
    bytes_in: Count = 0
    """Payload bytes from the relay."""
    bytes_out: Count = 0
    """Payload bytes to the relay."""
    figures: Annotated[Mapping[Label, float], Meta(max_length=64)] = {}
    """Anything else worth showing, by name."""


class Drain(Message, frozen=True, kw_only=True):
    """The sender is going away: no new streams; those that are open go on until they end or the sender's grace does.

    The device dials anew after `reconnect_after` seconds (spread by the relay, so that not all of its devices dial in
    the same moment), and keeps this tunnel until its streams have ended.
    """

    TYPE: ClassVar[str] = "drain"

    reconnect_after: Seconds = 0.0
    reason: Label = "draining"


class StreamOpen(Message, frozen=True, kw_only=True):
    """The first message on a stream that the relay opened."""

    TYPE: ClassVar[str] = "open"

    service: Name
    timeout: Seconds = 10.0
    """Seconds in which the device must answer."""
    traceparent: Label | None = None
    """W3C Trace Context of the request."""


class StreamAnswer(Message, frozen=True, kw_only=True):
    """The device's answer to `StreamOpen`."""

    TYPE: ClassVar[str] = "answer"

    ok: bool
    code: Label = ""
    """Why not; an `OpenRefusal`."""
    detail: Detail = ""


MessageSet: TypeAlias = Mapping[str, type[Message]]
"""What may be read at one place: message types by their `TYPE`."""

FROM_DEVICE: MessageSet = {m.TYPE: m for m in (DeviceHello, ServicesChanged, Stats, Drain)}
"""What the relay reads on the control stream."""
FROM_RELAY: MessageSet = {m.TYPE: m for m in (RelayHello, Drain)}
"""What the device reads on the control stream."""
STREAM_OPEN: MessageSet = {StreamOpen.TYPE: StreamOpen}
STREAM_ANSWER: MessageSet = {StreamAnswer.TYPE: StreamAnswer}
