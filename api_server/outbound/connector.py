"""Connections for the gateway: to exactly an address that was looked at, with the certificate of the name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

from api_server.outbound.errors import (
    OutboundError,
    TargetTimeoutError,
    TargetUnreachableError,
    TargetUntrustedError,
)
from api_server.outbound.policy import Target
from api_server.outbound.resolver import Resolver

__all__ = ["Connector"]

P = TypeVar("P", bound=asyncio.BaseProtocol)

_SHARE = 3.0
"""Seconds that an address may take while there are others to try."""


class Connector:
    """Connects to targets.

    Args:
        resolver: says where they are.
        tls: what certificates are checked against.
    """

    def __init__(self, resolver: Resolver, tls: ssl.SSLContext) -> None:
        self._resolver = resolver
        self._tls = tls

    async def connect(
        self, protocol_factory: Callable[[], P], target: Target, *, timeout: float
    ) -> tuple[asyncio.Transport, P]:
        """A connection, over TLS if the target wants it, whose name is then sent (SNI) and checked.

        Args:
            protocol_factory: makes what gets its bytes, as `loop.create_connection` wants it; once an attempt.
            target: as `TargetPolicy.check_url` gave it.
            timeout: seconds, resolving and the TLS handshake included.

        Raises:
            TargetForbiddenError, TargetNotResolvedError, TargetTimeoutError, TargetUnreachableError,
            TargetUntrustedError: there is none.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolver.resolve(target.host, target.port)
                failure: OutboundError = TargetUnreachableError(f"{target.host} cannot be reached")
                for number, (_, address) in enumerate(addresses, 1):
                    try:
                        async with asyncio.timeout(_SHARE if number < len(addresses) else None):
                            return await self._attempt(protocol_factory, target, address)
                    except TimeoutError:
                        failure = TargetTimeoutError(f"{target.host} does not answer")
                    except OutboundError as exc:
                        failure = exc
                raise failure
        except TimeoutError:
            raise TargetTimeoutError(f"{target.host} did not answer within {timeout:g} s") from None

    async def _attempt(
        self, protocol_factory: Callable[[], P], target: Target, address: str
    ) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_connection(
                protocol_factory,
                address,
                target.port,
                ssl=self._tls if target.tls else None,
                server_hostname=target.host if target.tls else None,
            )
        except ssl.SSLError as exc:
            raise TargetUntrustedError(f"the certificate of {target.host} does not hold") from exc
        except TimeoutError:
            raise
        except OSError as exc:
            raise TargetUnreachableError(f"{target.host} cannot be reached") from exc
