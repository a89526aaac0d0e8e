"""What users may name as a target, and which addresses may be reached (G3).

    check_url    when a URL is saved: what can be said of it without asking anybody
    check_host   whenever a name was resolved: every address of it

https is the rule. What the owner of the installation lets through (`allow_private_targets`) may be reached whatever its
address is; a host that is listed, by its name or as an address in a listed network, may be reached by http, too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from api_server.outbound.addresses import Address, carried, refusal
from api_server.outbound.errors import TargetForbiddenError, TargetRefusedError

__all__ = ["Target", "TargetPolicy", "is_allowance"]

_MAX_LENGTH = 2048

_PORTS = {"https": 443, "http": 80}

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
"""A last label that makes a host an IPv4 address for whoever reads URLs as browsers do (WHATWG, "ends in a number")."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads."""

    scheme: str
    """`https` or `http`."""
    host: str
    """Lower case, without a final dot; an IPv6 address without brackets."""
    port: int
    path: str
    """With the query: what follows the authority, `/` at least."""

    @property
    def tls(self) -> bool:
        """Whether it is reached by TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As `Host` says it: without the port that the scheme has by itself."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class TargetPolicy:
    """Says what may be named and reached.

    Args:
        allowed: hosts, addresses and networks (CIDR) that the refusal of private addresses lets through.

    Raises:
        ValueError: one of them is none.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for text in allowed:
            network = _network(text)
            if network is not None:
                self._networks.append(network)
            elif is_allowance(text):
                self._hosts.add(_plain(text))
            else:
                raise ValueError(f"{text!r} is neither a host nor a network such as 10.0.0.0/8")

    def check_url(self, url: str) -> Target:
        """Where a URL leads, as far as it can be said without resolving its name.

        Raises:
            TargetRefusedError: it can be no target.
        """
        if len(url) > _MAX_LENGTH or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise TargetRefusedError(f"a URL has at most {_MAX_LENGTH} printable ASCII characters, no blank and no \\")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise TargetRefusedError("that is no URL") from None
        scheme, host = parts.scheme, parts.hostname
        if scheme not in _PORTS or not host or not url.lower().startswith(f"{scheme}://") or port == 0:
            raise TargetRefusedError("write https://host[:port]/path")
        if "@" in parts.netloc or "#" in url:
            raise TargetRefusedError("a URL of a target has no user, no password and no fragment")
        host = _plain(host)
        address = _address(host)
        if address is None:
            _check_name(host)
        elif (reason := self.refused(host, address)) is not None:
            raise TargetRefusedError(f"{host} is not let through: {reason}")
        if scheme == "http" and not self.lists(host):
            raise TargetRefusedError("write https; http is for the hosts that HOMEPORT_ALLOW_PRIVATE_TARGETS lists")
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        return Target(scheme, host, _PORTS[scheme] if port is None else port, path)

    def lists(self, host: str) -> bool:
        """Whether a host, by its own words, is one that the owner of the installation lets through."""
        if host in self._hosts:
            return True
        address = _address(host)
        return address is not None and self._is_listed(address)

    def refused(self, host: str, address: Address) -> str | None:
        """Why the address of a host may not be reached; None when it may."""
        if host in self._hosts or self._is_listed(address):
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return "it has a scope"
        return refusal(address)

    def check_host(self, host: str, addresses: Sequence[Address]) -> None:
        """Whether a host may be reached, all of whose addresses are these.

        A name that has one address of the inside among others is refused as a whole: who answers for such a name
        chooses by chance, or by intent, where a request goes.

        Raises:
            TargetForbiddenError: it may not.
        """
        for address in addresses:
            if (reason := self.refused(host, address)) is not None:
                raise TargetForbiddenError(f"{host} is not let through: an address of it is {reason}")

    def _is_listed(self, address: Address) -> bool:
        inner = [] if isinstance(address, ipaddress.IPv4Address) else list(carried(address))
        if any(address in network for network in self._networks):
            return True
        return bool(inner) and all(any(each in network for network in self._networks) for each in inner)


def is_allowance(text: str) -> bool:
    """Whether a text can stand in `allow_private_targets`: a host name, an address or a network."""
    if _network(text) is not None:
        return True
    try:
        _check_name(_plain(text))
    except TargetRefusedError:
        return False
    return True


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_name(host: str) -> None:
    """Whether a host that is no address is a name.

    Raises:
        TargetRefusedError: it is another way to write an address, or nothing at all.
    """
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetRefusedError("the host is no name; write an international one as xn--...")
    if _NUMBER.fullmatch(labels[-1]):
        raise TargetRefusedError("write an IPv4 address as four decimal numbers")
