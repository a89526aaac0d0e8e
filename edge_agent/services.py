"""The list of services that the agent offers, as its user wrote it.

    NAME=URL[?OPTION=VALUE[&OPTION=VALUE]]

    web=http://127.0.0.1:8000                HTTP on a TCP port (port 80 when none is named)
    ssh=tcp://127.0.0.1:22                   any protocol on a TCP port
    app=unix:///run/app.sock                 any protocol on a Unix socket
    api=http+unix:///run/api.sock            HTTP on a Unix socket

    health=off | tcp | /path                 how health is checked: not at all, by connecting (the default), or by
                                             `GET /path` answered with a status below 500 (HTTP services only)
    connect_timeout=SECONDS                  how long a connect may take (default 5)

The list is the whole of what can be reached: the relay names a service, and never an address. The agent carries bytes
and does not read HTTP, so a URL has no path here: prefixes and `Host` are the gateway's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from common.ids import ServiceName, is_name
from edge_agent.checks import Check, ConnectCheck, HttpCheck
from edge_agent.errors import ServiceSpecError, UnknownServiceError
from edge_agent.targets import Target, tcp_target, unix_target

__all__ = ["DEFAULT_CONNECT_TIMEOUT", "Service", "ServiceKind", "ServiceList", "parse_service"]

DEFAULT_CONNECT_TIMEOUT: Final = 5.0
"""Seconds. Shorter than the relay's limit for an open, so that the relay hears a reason and not silence."""

_MAX_SERVICES = 256
"""As many as a hello lists (`common.wire.messages.DeviceHello`)."""

_MAX_CONNECT_TIMEOUT = 60.0
_MAX_UNIX_PATH = 107
"""Bytes: `sun_path` less its terminating zero (unix(7))."""


class ServiceKind(StrEnum):
    """What the gateway may do with a service."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One entry of the list."""

    name: ServiceName
    kind: ServiceKind
    target: Target
    check: Check | None
    """How its health is found out; None: it is not, and reported as unknown."""
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    """Seconds."""

    def __str__(self) -> str:
        return f"{self.name}={self.kind}:{self.target}"


class ServiceList(Mapping[ServiceName, Service]):
    """The services by name. What is not in here does not exist, whatever the relay asks for."""

    __slots__ = ("_services",)

    def __init__(self, services: Iterable[Service]) -> None:
        self._services: dict[ServiceName, Service] = {}
        for service in services:
            if service.name in self._services:
                raise ServiceSpecError(f"service {service.name!r} is given twice; every name stands for one target")
            self._services[service.name] = service
        if len(self._services) > _MAX_SERVICES:
            raise ServiceSpecError(f"{len(self._services)} services are given; an agent offers {_MAX_SERVICES} at most")

    @classmethod
    def parse(cls, specs: Iterable[str]) -> ServiceList:
        """The list that `specs` describe, each as in the module's docstring.

        Raises:
            ServiceSpecError: one cannot be read, or a name comes twice.
        """
        return cls(parse_service(spec) for spec in specs)

    def find(self, name: str) -> Service:
        """The service the relay asked for.

        Raises:
            UnknownServiceError: it is not on the list.
        """
        service = self._services.get(ServiceName(name))
        if service is None:
            # The name came from outside and may be anything: it is shown only if it could be one.
            shown = f" {name!r}" if is_name(name) else ""
            raise UnknownServiceError(f"this agent offers no service{shown}")
        return service

    def __getitem__(self, name: ServiceName) -> Service:
        return self._services[name]

    def __iter__(self) -> Iterator[ServiceName]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def __repr__(self) -> str:
        return f"<ServiceList {', '.join(map(str, self._services.values())) or 'empty'}>"


def parse_service(spec: str) -> Service:
    """The service that `spec` describes.

    Raises:
        ServiceSpecError: saying which part is wrong and what it should look like.
    """
    name, equals, url = spec.partition("=")
    if not equals or "://" in name:
        raise ServiceSpecError(
            f"a service is written NAME=URL, for example web=http://127.0.0.1:8000; {_shown(spec)} has no NAME="
        )
    if not is_name(name):
        raise ServiceSpecError(
            f"service name {_shown(name)} must be lower-case letters, digits and single hyphens, at most 40 characters"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ServiceSpecError(f"service {name}: the URL cannot be read; check its brackets and its port") from None
    if parts.username is not None or parts.password is not None:
        raise ServiceSpecError(f"service {name}: a target takes no user name or password; the service asks for its own")
    if parts.fragment:
        raise ServiceSpecError(f"service {name}: a target has no #fragment")
    kind, target = _target(name, parts, port)
    check, connect_timeout = _options(name, kind, parts.query)
    return Service(name=ServiceName(name), kind=kind, target=target, check=check, connect_timeout=connect_timeout)


def _target(name: str, parts: SplitResult, port: int | None) -> tuple[ServiceKind, Target]:
    match parts.scheme:
        case "http":
            return ServiceKind.HTTP, _tcp(name, parts, 80 if port is None else port)
        case "tcp":
            if port is None:
                raise ServiceSpecError(f"service {name}: a tcp:// target needs a port, for example tcp://127.0.0.1:22")
            return ServiceKind.TCP, _tcp(name, parts, port)
        case "unix":
            return ServiceKind.TCP, _unix(name, parts)
        case "http+unix":
            return ServiceKind.HTTP, _unix(name, parts)
        case "https":
            raise ServiceSpecError(
                f"service {name}: https:// targets are not offered; point at the plain HTTP port of the service, or "
                "carry TLS through unopened with tcp://"
            )
        case scheme:
            raise ServiceSpecError(
                f"service {name}: {_shown(scheme)} is no scheme of a target; use http, tcp, unix or http+unix"
            )


def _tcp(name: str, parts: SplitResult, port: int) -> Target:
    if not parts.hostname:
        raise ServiceSpecError(f"service {name}: no host; write for example {parts.scheme}://127.0.0.1:8000")
    try:
        parts.hostname.encode("idna")  # what the resolver would say, when nobody catches it
    except UnicodeError:
        raise ServiceSpecError(f"service {name}: {_shown(parts.hostname)} is no host name") from None
    if port == 0:
        raise ServiceSpecError(f"service {name}: port 0 cannot be connected to")
    if parts.path not in ("", "/"):
        raise ServiceSpecError(
            f"service {name}: a target has no path, since the agent does not read HTTP; leave {_shown(parts.path)} out "
            "and put the prefix into the route"
        )
    return tcp_target(parts.hostname, port)


def _unix(name: str, parts: SplitResult) -> Target:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or "\0" in path:
        raise ServiceSpecError(
            f"service {name}: a Unix socket needs an absolute path and three slashes: {parts.scheme}:///run/app.sock"
        )
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise ServiceSpecError(f"service {name}: the path of a Unix socket may have {_MAX_UNIX_PATH} bytes at most")
    return unix_target(path)


def _options(name: str, kind: ServiceKind, query: str) -> tuple[Check | None, float]:
    check: Check | None = ConnectCheck()
    connect_timeout = DEFAULT_CONNECT_TIMEOUT
    seen: set[str] = set()
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ServiceSpecError(f"service {name}: options are written ?OPTION=VALUE&OPTION=VALUE") from None
    for option, value in pairs:
        if option in seen:
            raise ServiceSpecError(f"service {name}: option {option} is given twice")
        seen.add(option)
        match option:
            case "health":
                check = _check(name, kind, value)
            case "connect_timeout":
                connect_timeout = _seconds(name, value)
            case _:
                raise ServiceSpecError(
                    f"service {name}: {_shown(option)} is no option of a target; there are health and connect_timeout"
                )
    return check, connect_timeout


def _check(name: str, kind: ServiceKind, value: str) -> Check | None:
    if value == "off":
        return None
    if value == "tcp":
        return ConnectCheck()
    if not value.startswith("/"):
        raise ServiceSpecError(f"service {name}: health is off, tcp, or a path such as /healthz; not {_shown(value)}")
    if kind is not ServiceKind.HTTP:
        raise ServiceSpecError(f"service {name}: only an HTTP service can be checked by a path; use health=tcp")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ServiceSpecError(f"service {name}: the path of health must be printable ASCII; percent-encode the rest")
    return HttpCheck(value)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_CONNECT_TIMEOUT:
        raise ServiceSpecError(
            f"service {name}: connect_timeout is seconds, up to {_MAX_CONNECT_TIMEOUT:g}; not {_shown(value)}"
        )
    return seconds


def _shown(text: str) -> str:
    """`text` for a message: quoted, escaped, and cut, since it may be anything."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
