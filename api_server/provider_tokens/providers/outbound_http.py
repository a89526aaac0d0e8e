"""Requests to providers over `api_server.outbound`: only to addresses that may be reached (criterion G3), in bounded
time, with bounded answers. No redirect is followed: tokens are not for whatever other address an answer names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import ProviderUnavailableError
from api_server.outbound.errors import OutboundError, TargetForbiddenError, TargetNotResolvedError
from api_server.outbound.http import OutboundAnswer, OutboundHttp
from api_server.provider_tokens.providers.sending import NotAskedError

__all__ = ["PROVIDER_TIMEOUT", "OutboundProviderHttp"]

PROVIDER_TIMEOUT: Final = 10.0
"""Seconds for a whole exchange."""
_MAX_BYTES = 256 * 1024
"""Of an answer: the largest known key set has 30 KiB, a token answer less."""
_RETRY_AFTER = 5.0
"""Seconds, when the provider does not say."""
_MAX_RETRY_AFTER = 300.0


class OutboundProviderHttp:
    """Implements `ProviderHttp`.

    Args:
        http: sends requests.
        timeout: seconds for a whole exchange.
    """

    def __init__(self, http: OutboundHttp, *, timeout: float = PROVIDER_TIMEOUT) -> None:
        self._http = http
        self._timeout = timeout

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._send("GET", url, headers or {}, None)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        fields = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return await self._send("POST", url, fields, urlencode(form).encode())

    async def delete(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        return await self._send("DELETE", url, headers, content)

    async def aclose(self) -> None:
        """Nothing to let go of: the connections are those of whoever made `http`."""

    async def _send(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        try:
            answer = await self._http.request(
                method,
                url,
                headers={"Accept": "application/json", **headers},
                content=content,
                timeout=self._timeout,
                max_bytes=_MAX_BYTES,
            )
        except (TargetForbiddenError, TargetNotResolvedError) as exc:
            raise NotAskedError(exc.detail, retry_after=_RETRY_AFTER) from exc
        except OutboundError as exc:
            raise ProviderUnavailableError(exc.detail, retry_after=_RETRY_AFTER) from exc
        return _checked(answer, urlsplit(url).hostname or "")


def _checked(answer: OutboundAnswer, host: str) -> Answer:
    if answer.status == 429:  # RFC 6585 section 4: it was not looked at
        raise NotAskedError(f"{host} answers 429", retry_after=_retry_after(answer))
    if answer.status >= 500:
        raise ProviderUnavailableError(f"{host} answers {answer.status}", retry_after=_retry_after(answer))
    if 300 <= answer.status < 400:
        raise ProviderUnavailableError(
            f"{host} answers with a redirect, and none is followed", retry_after=_RETRY_AFTER
        )
    return Answer(answer.status, answer.body)


def _retry_after(answer: OutboundAnswer) -> float:
    """What the provider asks for, within reason; a date counts as not said."""
    text = answer.header("Retry-After") or ""
    return min(max(float(text), 1.0), _MAX_RETRY_AFTER) if text.isascii() and text.isdigit() else _RETRY_AFTER
