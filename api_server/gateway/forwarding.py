"""What the gateway tells a service about the client: `X-Forwarded-*` and `traceparent`. Set here, never passed on.

A reverse proxy in front of the gateway is believed if its address is in `trusted_proxies`: then its `X-Forwarded-For`
is continued, and its `-Proto` and `-Host` stand. A `Via` field is not added: nginx and others switch compression off
for requests that carry one.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from api_server.gateway.fields import FieldKind, SortedFields
from api_server.gateway.limits import Network
from api_server.gateway.paths import is_authority

__all__ = ["Claims", "Client", "is_traceparent", "read_claims", "traceparent"]

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

_PROTOCOL: Final = re.compile(rb"https?")


_CLAIMS: Final = frozenset((FieldKind.FORWARDED_FOR, FieldKind.FORWARDED_PROTO, FieldKind.FORWARDED_HOST))


class Claims(NamedTuple):
    """The `X-Forwarded-*` fields of a request, as they came."""

    addresses: bytes
    protocol: bytes
    host: bytes


def read_claims(fields: SortedFields) -> Claims | None:
    """What a request claims about where it comes from; None for nothing."""
    if _CLAIMS.isdisjoint(fields.special):
        return None
    return Claims(
        b", ".join(fields.values(FieldKind.FORWARDED_FOR)),
        b",".join(fields.values(FieldKind.FORWARDED_PROTO)).lower(),
        b",".join(fields.values(FieldKind.FORWARDED_HOST)),
    )


class Client:
    """The client of one connection, as services are told about it.

    Args:
        address: of the peer, without the port.
        local: gives the `host:port` that it connected to; stands for the Host of an HTTP/1.0 request without one.
        trusted: networks of reverse proxies whose word is taken.
    """

    __slots__ = ("_trusted", "address", "local")

    def __init__(self, address: str, local: Callable[[], bytes], trusted: Sequence[Network] = ()) -> None:
        self.address = address
        self.local = local
        self._trusted = bool(trusted) and _is_in(address, trusted)

    def original_address(self, claims: Claims | None) -> str:
        """The address that counts for limits: what a trusted proxy says was its peer, else the peer's own."""
        if claims is None or not self._trusted:
            return self.address
        last = claims.addresses.rpartition(b",")[2].strip(b" \t").decode("latin-1")
        return last if _is_address(last) else self.address

    def forwarded(self, host: bytes, claims: Claims | None) -> bytes:
        """The `X-Forwarded-*` lines of a request.

        Args:
            host: the Host of the request.
            claims: that came with it.
        """
        address = self.address.encode("latin-1")
        protocol = b"http"
        if claims is not None and self._trusted:
            if claims.addresses:
                address = b"%b, %b" % (claims.addresses, address)
            if _PROTOCOL.fullmatch(claims.protocol) is not None:
                protocol = claims.protocol
            if is_authority(claims.host):
                host = claims.host
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
