"""What the gateway tells a service about the client: `X-Forwarded-*` and `traceparent`. Set here, never passed on.

A reverse proxy in front of the gateway is believed if its address is in `trusted_proxies`: then its `X-Forwarded-For`
is continued, and its `-Proto` and `-Host` stand. A `Via` field is not added: nginx and others switch compression off
for requests that carry one.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Sequence
from typing import Final

from api_server.gateway.fields import FieldKind, SortedFields
from api_server.gateway.limits import Network
from api_server.gateway.paths import is_authority

__all__ = ["Client", "is_traceparent", "traceparent"]

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_PROTOCOL: Final = re.compile(rb"https?")


class Client:
    """The client of one connection, as services are told about it.

    Args:
        address: of the peer, without the port.
        local: `host:port` that it connected to; stands for the Host header of an HTTP/1.0 request without one.
        trusted: networks of reverse proxies whose word is taken.
    """

    __slots__ = ("address", "local", "trusted")

    def __init__(self, address: str, local: bytes, trusted: Sequence[Network] = ()) -> None:
        self.address = address
        self.local = local
        self.trusted = bool(trusted) and _is_in(address, trusted)

    def original_address(self, fields: SortedFields) -> str:
        """The address that counts for limits: what a trusted proxy says was its peer, else the peer's own."""
        if not self.trusted:
            return self.address
        chain = b",".join(fields.values(FieldKind.FORWARDED_FOR))
        last = chain.rpartition(b",")[2].strip(b" \t").decode("latin-1")
        return last if _is_address(last) else self.address

    def forwarded(self, host: bytes, fields: SortedFields) -> bytes:
        """The `X-Forwarded-*` lines of a request.

        Args:
            host: the Host of the request.
            fields: that came with it.
        """
        address = self.address.encode("latin-1")
        protocol = b"http"
        if self.trusted:
            address = b", ".join([*fields.values(FieldKind.FORWARDED_FOR), address])
            said = b",".join(fields.values(FieldKind.FORWARDED_PROTO)).lower()
            if _PROTOCOL.fullmatch(said) is not None:
                protocol = said
            hosts = fields.values(FieldKind.FORWARDED_HOST)
            host = hosts[0] if hosts and is_authority(hosts[0]) else host
        return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (address, protocol, host)


def traceparent(received: bytes | None) -> bytes:
    """The `traceparent` of the request that is sent on (W3C Trace Context, section 3.2).

    Args:
        received: that of the client, if it is one. Its trace goes on, with this hop as the parent.
    """
    span = random.getrandbits(64) or 1
    if received is not None:
        return b"00-%b-%016x-%b" % (received[3:35], span, received[53:55])
    return b"00-%032x-%016x-00" % (random.getrandbits(128) or 1, span)


def is_traceparent(value: bytes) -> bool:
    """Whether it can be understood, or would be by a later version (section 3.2.4)."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or match[1] == b"ff" or not match[2].strip(b"0") or not match[3].strip(b"0"):
        return False
    return match[1] != b"00" or match[5] is None


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
