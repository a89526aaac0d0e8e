"""How httpcore reaches the network: through the resolver, to an address that was looked at."""

from __future__ import annotations

from collections.abc import Iterable

import httpcore
from httpcore import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream

from api_server.outbound.resolver import Resolver

__all__ = ["CheckedBackend"]

_SHARE = 3.0
"""Seconds that an address may take while there are others to try."""


class CheckedBackend(AsyncNetworkBackend):
    """Connects to nothing that the resolver does not let through.

    The name in the TLS handshake, which the certificate is checked against, is the request's: httpcore takes it from
    there, not from here.

    Args:
        resolver: says where hosts are.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._network = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """A connection to one of the host's addresses, tried in their order.

        Raises:
            TargetForbiddenError, TargetNotResolvedError: there is none that may be reached.
            httpcore.ConnectError, httpcore.ConnectTimeout: none answers.
        """
        addresses = await self._resolver.resolve(host, port)
        for number, (_, address) in enumerate(addresses, 1):
            last = number == len(addresses)
            wait = timeout if last else min(_SHARE, timeout or _SHARE)
            try:
                return await self._network.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def sleep(self, seconds: float) -> None:
        """Wait, as the network that is used does."""
        await self._network.sleep(seconds)
