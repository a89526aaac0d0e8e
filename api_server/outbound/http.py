"""Requests to targets, with a limit on everything that the other side could make large.

It is httpcore, the part of httpx that moves bytes, without the client on top: that would keep cookies from one team's
request for another's, unpack what is compressed, and look for proxies in the environment. Here an answer is its status,
its header and its bytes; a redirect is an answer like any other, and where it points is nobody's target.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpcore

from api_server.outbound.errors import (
    AnswerMalformedError,
    AnswerTooLargeError,
    OutboundError,
    TargetForbiddenError,
    TargetRefusedError,
    TargetTimeoutError,
    TargetUnreachableError,
    TargetUntrustedError,
)
from api_server.outbound.network import CheckedBackend
from api_server.outbound.policy import Target, TargetPolicy
from api_server.outbound.resolver import Resolver

__all__ = ["OutboundAnswer", "OutboundHttp"]

_IDLE = 5.0
"""Seconds that a connection is kept for the next request to the same target."""

_OURS = {"accept-encoding", "connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"}
"""Fields that follow from the request; who gives one of them would change how it is framed."""


@dataclass(frozen=True, slots=True)
class OutboundAnswer:
    """What a target said."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case, in the order in which they came."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a field, joined if it came several times; None when it did not."""
        values = [value for each, value in self.headers if each == name.lower()]
        return ", ".join(values) if values else None


class OutboundHttp:
    """Sends requests to targets. Close it.

    Args:
        policy: what may be named.
        resolver: what may be reached.
        tls: what certificates are checked against.
        connections: most at a time, all targets together.
    """

    def __init__(
        self, policy: TargetPolicy, resolver: Resolver, tls: ssl.SSLContext, *, connections: int = 100
    ) -> None:
        self._policy = policy
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=connections,
            max_keepalive_connections=max(1, connections // 4),
            keepalive_expiry=_IDLE,
            network_backend=CheckedBackend(resolver),
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout: float,
        max_bytes: int,
    ) -> OutboundAnswer:
        """Send a request, and read the whole answer.

        Args:
            method: upper case.
            url: of the target, which is checked again.
            headers: beside those that follow from the request.
            content: the body; None for none.
            timeout: seconds for everything: waiting for a connection, resolving, connecting, sending, reading.
            max_bytes: of the answer's body.

        Raises:
            OutboundError: see `api_server.outbound.errors`. Once anything may have been sent, it cannot be told here
                whether the target has done what it was asked for.
            ValueError: a header field is none.
        """
        try:
            target = self._policy.check_url(url)
        except TargetRefusedError as exc:
            raise TargetForbiddenError(exc.detail) from exc
        request = _request(method, target, headers or {}, content)
        try:
            async with asyncio.timeout(timeout):
                response = await self._pool.handle_async_request(request)
                try:
                    body = await _read(response, target.host, max_bytes)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise TargetTimeoutError(f"{target.host} did not answer within {timeout:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as exc:
            # The text of the exception may quote the request.
            raise _mapped(exc, target.host) from exc
        return OutboundAnswer(response.status, _fields(response.headers), body)

    async def aclose(self) -> None:
        """Let go of connections. Nothing may be under way."""
        await self._pool.aclose()


def _request(method: str, target: Target, headers: Mapping[str, str], content: bytes | None) -> httpcore.Request:
    given = {name.lower(): value for name, value in headers.items()}
    if not _OURS.isdisjoint(given):
        raise ValueError(f"not a field to give: {', '.join(sorted(_OURS & given.keys()))}")
    if any(ord(character) < 32 or ord(character) == 127 for text in (*given, *given.values()) for character in text):
        raise ValueError("a header field has no control characters")
    fields = {
        "host": target.authority,
        "user-agent": "homeport",
        "accept": "*/*",
        "accept-encoding": "identity",  # a compressed answer could unpack to any size
        **given,
    }
    if content is not None or method not in ("GET", "HEAD"):
        fields["content-length"] = str(len(content or b""))
    return httpcore.Request(
        method,
        httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
        headers=[(name.encode("ascii"), value.encode("utf-8")) for name, value in fields.items()],
        content=content,
    )


async def _read(response: httpcore.Response, host: str, max_bytes: int) -> bytes:
    for name, value in response.headers:
        if name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise AnswerMalformedError(f"{host} compresses its answer, though it was asked not to")
        if name.lower() == b"content-length" and int(value) > max_bytes:  # h11 has seen to it that it is a number
            raise AnswerTooLargeError(f"the answer of {host} has more than {max_bytes} bytes")
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise AnswerTooLargeError(f"the answer of {host} has more than {max_bytes} bytes")
    return bytes(body)


def _fields(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.lower().decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _mapped(exc: Exception, host: str) -> OutboundError:
    chain: BaseException | None = exc
    while chain is not None:
        if isinstance(chain, ssl.SSLError) and not isinstance(chain, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return TargetUntrustedError(f"the certificate of {host} does not hold, or it does not speak TLS")
        chain = chain.__cause__ or chain.__context__
    if isinstance(exc, httpcore.TimeoutException):
        return TargetTimeoutError(f"{host} does not answer")
    if isinstance(exc, httpcore.ProtocolError):
        return AnswerMalformedError(f"the answer of {host} is cut, or is not HTTP")
    return TargetUnreachableError(f"{host} cannot be reached, or broke the connection")
