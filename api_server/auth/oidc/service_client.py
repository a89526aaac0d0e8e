"""The service client: how the API itself gets an access token of the provider (client_credentials, RFC 6749 section
4.4), to call others that trust it.

The way back is closed: no access token of the provider opens this API, the service client's own included. Programs show
API tokens, people sign in; a provider that hands out tokens to many clients is not asked to say who may do what here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from api_server.auth.oidc.fetcher import Fetcher
from api_server.auth.oidc.provider import Provider
from api_server.auth.oidc.requests import Client, read_tokens, token_request
from common.clock import Clock
from common.secret import Secret

__all__ = ["ServiceClient"]

_MARGIN = 30.0
"""Seconds before its end at which a token is not given out any more, so that it lasts for the call."""

_DEFAULT_LIFETIME = 60.0
"""Seconds, when the provider does not say."""


class ServiceClient:
    """Gets tokens for the API itself, and keeps one until shortly before it ends.

    Args:
        provider: whose tokens.
        client: with a secret.
        scopes: asked for; none for the client's usual ones.
        fetcher: sends requests.
        clock: for the life of the token.
    """

    def __init__(
        self, provider: Provider, client: Client, *, scopes: Sequence[str] = (), fetcher: Fetcher, clock: Clock
    ) -> None:
        if client.secret is None:
            raise ValueError("a service client needs a secret")
        self._provider = provider
        self._client = client
        self._scopes = tuple(scopes)
        self._fetcher = fetcher
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: Secret | None = None
        self._usable_until = 0.0

    async def token(self) -> Secret:
        """An access token that lasts for some seconds at least. However many ask at once, the provider is asked once.

        Raises:
            ProviderUnavailableError: the provider gives none.
        """
        async with self._lock:
            if self._token is None or self._clock.monotonic() >= self._usable_until:
                await self._renew()
            assert self._token is not None
            return self._token

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._fetcher.aclose()

    async def _renew(self) -> None:
        metadata = await self._provider.metadata()
        grant = {"grant_type": "client_credentials"}
        if self._scopes:
            grant["scope"] = " ".join(self._scopes)
        form, headers = token_request(metadata, self._client, grant)
        asked_at = self._clock.monotonic()
        tokens = read_tokens(await self._fetcher.post(metadata.token_endpoint, form, headers))
        lifetime = _DEFAULT_LIFETIME if tokens.expires_in is None else tokens.expires_in
        self._token = Secret(tokens.access_token)
        # A token of a short life is still worth half of it.
        self._usable_until = asked_at + max(lifetime - _MARGIN, lifetime / 2)
