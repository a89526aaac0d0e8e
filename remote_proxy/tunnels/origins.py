"""From whose address a handshake comes, when proxies stand in front of the relay.

A trusted proxy names its peer at the end of `X-Forwarded-For`. What stands before that is the peer's own word, believed
only where the peer is a trusted proxy too. A trusted proxy that names nobody leaves the address unknown: all its
devices would share one otherwise.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from common.tunnel.handshake import HandshakeRequest

__all__ = ["Origins", "read_networks"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def read_networks(texts: Sequence[str]) -> tuple[_Network, ...]:
    """Networks of addresses, each `10.0.0.0/8` or a single address.

    Raises:
        ValueError: one is neither.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


class Origins:
    """Tells addresses apart.

    Args:
        trusted: networks of proxies whose `X-Forwarded-For` is believed.
    """

    __slots__ = ("_trusted",)

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = read_networks(trusted)

    def address(self, request: HandshakeRequest) -> str | None:
        """The address that dialled, without its port; None if it is not known."""
        host, _, _ = request.remote_address.rpartition(":")
        address = _parse(host)
        if address is None:
            return None
        forwarded = request.headers.get("x-forwarded-for", "").split(",")
        while self._trusts(address):
            address = _parse(forwarded.pop()) if forwarded else None
            if address is None:
                return None
        return str(address)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _parse(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
