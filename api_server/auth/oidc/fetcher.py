"""Requests to the provider, behind an interface, with a limit on everything that the other side could make large.

No redirect is followed: endpoints come from the discovery document, and whoever answers with another address is not
where the client's secret should go.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Protocol

import httpx

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import ProviderUnavailableError
from common.urls import is_loopback_url

__all__ = ["Fetcher", "HttpxFetcher"]

_MAX_BYTES = 256 * 1024
"""Of an answer. The largest known key set, of a provider with a certificate chain in each key, has 30 KiB."""

_TIMEOUT = 10.0
"""Seconds for a whole exchange, connecting included, however slowly its bytes drip."""

_RETRY_AFTER = 5.0
"""Seconds, when the provider does not say."""


class Fetcher(Protocol):
    """Sends requests to the provider."""

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch a document.

        Raises:
            ProviderUnavailableError: there is no answer, or one that is too large, too slow or a fault of the server.
        """
        ...

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form.

        Raises:
            ProviderUnavailableError: as `get`.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class HttpxFetcher:
    """Over httpx. Proxies of the environment are used, unless the provider is on this machine.

    Args:
        issuer: decides whether it is.
        tls: what certificates are checked against; None for the system's.
        timeout: seconds for a whole exchange.
        max_bytes: of an answer.
        transport: for tests.
    """

    def __init__(
        self,
        issuer: str,
        *,
        tls: ssl.SSLContext | None = None,
        timeout: float = _TIMEOUT,
        max_bytes: int = _MAX_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._client = httpx.AsyncClient(
            timeout=timeout,
            follow_redirects=False,
            trust_env=not is_loopback_url(issuer),
            verify=tls if tls is not None else True,
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=4, keepalive_expiry=15.0),
            # A compressed answer could unpack to any size.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "homeport"},
            transport=transport,
        )

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._send(self._client.build_request("GET", url, headers=headers))

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        return await self._send(self._client.build_request("POST", url, data=form, headers=headers))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _send(self, request: httpx.Request) -> Answer:
        where = request.url.host
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._read(response, where)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise _unavailable(f"{where} did not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as exc:
            # The text of the exception may quote the request.
            raise _unavailable(f"{where} cannot be reached ({type(exc).__name__})") from exc
        if response.status_code >= 500 or response.status_code == 429:
            raise ProviderUnavailableError(
                f"{where} answers {response.status_code}", retry_after=_retry_after(response.headers)
            )
        if response.is_redirect:
            raise _unavailable(f"{where} answers with a redirect, and none is followed")
        return Answer(response.status_code, body)

    async def _read(self, response: httpx.Response, where: str) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _unavailable(f"{where} compresses its answer, though it was asked not to")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._max_bytes:
                raise _unavailable(f"the answer of {where} has more than {self._max_bytes} bytes")
        return bytes(body)


def _unavailable(detail: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(detail, retry_after=_RETRY_AFTER)


def _retry_after(headers: Mapping[str, str]) -> float:
    """What the provider asks for, within reason; a date counts as not said."""
    text = headers.get("Retry-After", "")
    return min(max(float(text), 1.0), 300.0) if text.isascii() and text.isdigit() else _RETRY_AFTER
