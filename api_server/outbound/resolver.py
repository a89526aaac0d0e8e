"""Names into addresses that may be reached.

Addresses are looked at here, after the name was resolved, and a connection goes to one that was: a name that means
something else a moment later (DNS rebinding) changes nothing. Nothing is kept; what a name means is asked each time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from api_server.outbound.addresses import Address
from api_server.outbound.errors import TargetNotResolvedError
from api_server.outbound.policy import TargetPolicy

__all__ = ["Lookup", "Resolver", "system_lookup"]

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host and port, as texts; raises OSError when there are none."""

_TIMEOUT = 5.0
"""Seconds for a name server; resolv.conf(5) waits as long for each of them."""

_AT_ONCE = 16
"""Names that are asked for at a time: each occupies a thread, which cannot be taken back."""

_MOST = 16
"""Addresses of a name that are tried; all of them are looked at."""


class Resolver:
    """Resolves names, and says which of their addresses may be reached.

    Args:
        policy: decides.
        lookup: asks the name servers.
    """

    def __init__(self, policy: TargetPolicy, *, lookup: Lookup | None = None) -> None:
        self._policy = policy
        self._lookup = lookup if lookup is not None else system_lookup
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def resolve(self, host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        """The addresses of a host, each of which may be reached.

        Args:
            host: a name, or an address.
            port: of the service, which some resolvers want to know.

        Raises:
            TargetForbiddenError: one of them may not.
            TargetNotResolvedError: it has none.
        """
        host = host.lower().removesuffix(".")
        addresses = [ipaddress.ip_address(text) for text in await self._ask(host, port)]
        if not addresses:
            raise TargetNotResolvedError(f"{host} has no address")
        self._policy.check_host(host, addresses)
        return [(_family(address), str(address)) for address in addresses[:_MOST]]

    async def _ask(self, host: str, port: int) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            async with asyncio.timeout(_TIMEOUT), self._turns:
                return await self._lookup(host, port)
        except TimeoutError:
            raise TargetNotResolvedError(f"no name server says what {host} is, within {_TIMEOUT:g} s") from None
        except (OSError, UnicodeError) as exc:
            raise TargetNotResolvedError(f"{host} has no address") from exc


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """What the machine's own resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
