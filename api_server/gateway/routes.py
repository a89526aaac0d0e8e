"""Where a request goes: from host and path to a target.

    /d/{team}/{device}/{service}/{path...}              HTTP, and whatever it upgrades to
    {service}--{device}--{team}.{domain}/{path...}      the same, by host; the whole path is the service's
    /t/{team}/{device}/{service}                        raw TCP

Names are checked here, so that all that comes out is a name. Everything else is asked of the next `Router`, which a
table of routes implements.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from api_server.gateway.targets import ServiceTarget, StreamSource, Target
from common.ids import ServiceName, TeamId

__all__ = ["DeviceRouter", "NoRoutes", "Route", "Router", "StreamsTo"]

StreamsTo = Callable[[TeamId, str, ServiceName], StreamSource]
"""Makes the source of the streams to a service of a device."""

_NAME: Final = rb"[a-z0-9]+(?:-[a-z0-9]+)*"
"""As `common.ids.is_name` says."""

_PATH: Final = re.compile(rb"/[dt]/(?P<team>%b)/(?P<device>%b)/(?P<service>%b)(?=/|\Z)" % (_NAME, _NAME, _NAME))

_HOST: Final = re.compile(rb"(?P<service>%b)--(?P<device>%b)--(?P<team>%b)" % (_NAME, _NAME, _NAME))

_PORT: Final = re.compile(rb":[0-9]*\Z")
_RAW: Final = ord("t")

_MAX_NAME: Final = 40
_MAX_KNOWN: Final = 4096
"""Targets kept ready, by the part of the path that names them."""


class Route(NamedTuple):
    """Where one request goes."""

    target: Target
    path: bytes
    """What the target is asked for: what is left of the path. Empty only where a slash is missing, to which the client
    is sent."""


class Router(Protocol):
    """Finds the route of a request."""

    def route(self, host: bytes, path: bytes) -> Route | None:
        """The route; None when there is none. Must not block.

        Args:
            host: host and port of the request.
            path: checked by `paths.check_path`, still percent-encoded.
        """
        ...


class NoRoutes:
    """The router of a gateway without a route table."""

    __slots__ = ()

    def route(self, host: bytes, path: bytes) -> Route | None:  # noqa: ARG002
        return None


class DeviceRouter:
    """The built-in routes to devices.

    Args:
        domain: parent of the hosts that name a service; None for none.
        streams: where those to a service come from.
        others: asked about everything else.
    """

    __slots__ = ("_known", "_others", "_streams", "_suffix")

    def __init__(self, *, domain: str | None, streams: StreamsTo, others: Router) -> None:
        self._suffix = b"." + domain.lower().encode("idna") if domain else b""
        self._streams = streams
        self._others = others
        self._known: dict[bytes, ServiceTarget] = {}

    def __len__(self) -> int:
        """Targets kept ready."""
        return len(self._known)

    def route(self, host: bytes, path: bytes) -> Route | None:
        if self._suffix:
            name = _PORT.sub(b"", host.lower()).removesuffix(b".")
            if name.endswith(self._suffix):
                target = self._known.get(name)
                if target is None:
                    match = _HOST.fullmatch(name.removesuffix(self._suffix))
                    target = self._target(name, match, raw=False, prefix=b"") if match is not None else None
                return Route(target, path) if target is not None else None
        match = _PATH.match(path)
        if match is None:
            return self._others.route(host, path)
        prefix = match[0]
        target = self._known.get(prefix) or self._target(prefix, match, raw=prefix[1] == _RAW, prefix=prefix)
        if target is None:
            return None
        rest = path[match.end() :]
        return None if target.raw and rest not in (b"", b"/") else Route(target, rest)

    def _target(self, key: bytes, match: re.Match[bytes], *, raw: bool, prefix: bytes) -> ServiceTarget | None:
        """The target that a match names, remembered under `key`."""
        names = match.group("team", "device", "service")
        if max(map(len, names)) > _MAX_NAME:
            return None
        team, device, service = (name.decode("ascii") for name in names)
        streams = self._streams(TeamId(team), device, ServiceName(service))
        target = ServiceTarget(TeamId(team), device, ServiceName(service), raw, prefix, streams)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[key] = target
        return target
