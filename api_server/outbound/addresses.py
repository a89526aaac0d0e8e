"""Which addresses are of the public Internet.

Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and what has come since), and where
clouds answer with credentials of the machine. They are written down here, because what `ipaddress` calls private
differs between versions of Python.

An IPv6 address that carries an IPv4 address is judged by that one, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

__all__ = ["Address", "carried", "refusal"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV4 = {
    ipaddress.IPv4Network(network): reason
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's NAT"),
        ("127.0.0.0/8", "this machine"),
        ("168.63.129.16/32", "metadata of a cloud"),  # Azure's, the one outside of the ranges below
        ("169.254.0.0/16", "link-local, or metadata of a cloud"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "of protocols, or metadata of a cloud"),
        ("192.0.2.0/24", "for documentation"),
        ("192.31.196.0/24", "of a special service"),  # AS112
        ("192.52.193.0/24", "of a special service"),  # AMT
        ("192.88.99.0/24", "of 6to4 relays"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "of a special service"),  # AS112
        ("198.18.0.0/15", "for measurements"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
}

_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
"""What has been given out as global unicast; nothing else is reached, but for `_NAT64`."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052. The prefix for local use, 64:ff9b:1::/48, is not one of the public Internet."""
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")

_IPV6 = {
    ipaddress.IPv6Network(network): reason
    for network, reason in (
        ("2001::/23", "of protocols or tunnels"),
        ("2001:db8::/32", "for documentation"),
        ("2620:4f:8000::/48", "of a special service"),
        ("3fff::/20", "for documentation"),
    )
}


def refusal(address: Address) -> str | None:
    """Why an address is not of the public Internet; None when it is.

    Args:
        address: without a scope.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return next((reason for network, reason in _IPV4.items() if address in network), None)
    for inner in carried(address):
        if (reason := refusal(inner)) is not None:
            return reason
    if address in _NAT64 or address in _MAPPED:
        return None
    if address not in _GLOBAL_IPV6:
        return "this machine, link-local, private, multicast or reserved"
    return next((reason for network, reason in _IPV6.items() if address in network), None)


def carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries: mapped and compatible (RFC 4291 section 2.5.5), NAT64 (RFC
    6052), 6to4 (RFC 3056), and both of Teredo (RFC 4380 section 4), the client's of which is written inverted.
    """
    number = int(address)
    if address in _MAPPED or address in _COMPATIBLE or address in _NAT64:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
    elif address in _6TO4:
        yield ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield ipaddress.IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield ipaddress.IPv4Address(~number & 0xFFFFFFFF)
