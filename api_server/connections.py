"""What people have connected at other providers, put together: part of the composition root, which `server` is.

providers ── OutboundProviderHttp ── Outbound ──> GitHub, GitLab, Bitbucket, OpenID providers
"""

from __future__ import annotations

from collections.abc import Mapping

from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.endpoints import ProviderEndpoints
from api_server.provider_tokens.providers.catalogue import Providers
from api_server.provider_tokens.providers.outbound_http import OutboundProviderHttp
from api_server.provider_tokens.settings import ProviderSettings
from api_server.rest import Endpoints
from common.clock import Clock

__all__ = ["Connections"]


class Connections:
    """Everything about provider tokens.

    Args:
        settings: of the providers, by name.
        outbound: sends requests to them.
        clock: of both kinds.
    """

    def __init__(self, settings: Mapping[str, ProviderSettings], outbound: OutboundHttp, clock: Clock) -> None:
        self.providers = Providers(settings, http=OutboundProviderHttp(outbound), clock=clock)
        self.endpoints: tuple[Endpoints, ...] = (ProviderEndpoints(self.providers),)
        """What they serve."""
