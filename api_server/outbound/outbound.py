"""All that goes out, as the composition root makes it: one policy, one resolver, one set of certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from api_server.outbound.connector import Connector
from api_server.outbound.http import OutboundHttp
from api_server.outbound.policy import TargetPolicy
from api_server.outbound.resolver import Lookup, Resolver
from common.settings import Problem, SettingsError

__all__ = ["Outbound"]


class Outbound:
    """Close it.

    Args:
        allowed: hosts and networks that the refusal of private addresses lets through.
        ca_file: certificates of authorities to trust beside the system's; None for none.
        lookup: asks the name servers.
        tls: what certificates are checked against, instead of the system's and that file; for tests.

    Raises:
        SettingsError: the file cannot be used.
        ValueError: what is allowed is neither a host nor a network.
    """

    def __init__(
        self,
        allowed: Iterable[str] = (),
        *,
        ca_file: Path | None = None,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = TargetPolicy(allowed)
        self.tls = _tls(ca_file) if tls is None else tls
        """What certificates are checked against."""
        self.resolver = Resolver(self.policy, lookup=lookup)
        self.connector = Connector(self.resolver, self.tls)
        self.http = OutboundHttp(self.policy, self.resolver, self.tls)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self.http.aclose()


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError([Problem("outbound_ca_file", f"unusable: {exc}")]) from exc
    return context
