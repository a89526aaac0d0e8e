"""Requests into the structs that a handler declares, and its results into bytes.

    path, query     text, converted and checked: 422 validation_failed
    body            must say that it is JSON (415), be no longer than the limit (413), arrive in time (408), be JSON
                    (400) and be what the struct says (422)

An unknown or repeated parameter is refused, as is an unknown field: a misspelt limit must not mean "no limit".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from api_server.http.errors import (
    BodyTooLargeError,
    MalformedJsonError,
    MalformedRequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
    ValidationFailedError,
)

__all__ = ["bind_body", "bind_text", "encode_json"]

encode_json = msgspec.json.Encoder().encode

_BODY_TIMEOUT = 30.0
"""Seconds for the whole body, which is at most `max_request_bytes` long."""


def bind_text(source: str, items: Iterable[tuple[str, str]], type_: type[Any]) -> Any:
    """The struct that text parameters make.

    Args:
        source: `path` or `query`, for the error.
        items: names and values, decoded.
        type_: the struct.

    Raises:
        ValidationFailedError: they make none.
    """
    given: dict[str, str] = {}
    for name, value in items:
        if name in given:
            raise ValidationFailedError(f"{source}: a parameter is given twice")
        given[name] = value
    try:
        return msgspec.convert(given, type_, strict=False)
    except msgspec.ValidationError as exc:
        raise ValidationFailedError(f"{source}: {exc}") from exc


async def bind_body(request: web.Request, decoder: msgspec.json.Decoder[Any], limit: int) -> Any:
    """The struct that the JSON body makes. No body at all counts as `{}`.

    Args:
        request: with its body unread.
        decoder: of the struct.
        limit: bytes.

    Raises:
        BodyTooLargeError, MalformedJsonError, MalformedRequestError, RequestTimeoutError, UnsupportedMediaTypeError,
        ValidationFailedError: see the table above.
    """
    if request.body_exists and not _is_json(request.content_type):
        raise UnsupportedMediaTypeError("send the body as Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("send the body without a Content-Encoding")
    body = await _read(request, limit) if request.body_exists else b"{}"
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise ValidationFailedError(f"body: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedJsonError(f"body: {exc}") from exc


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )


async def _read(request: web.Request, limit: int) -> bytes:
    too_large = BodyTooLargeError(f"a body may have {limit} bytes")
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError as exc:
        raise RequestTimeoutError(f"the body must arrive within {_BODY_TIMEOUT:.0f} seconds") from exc
    except (web.RequestPayloadError, web.PayloadAccessError, ConnectionError) as exc:
        raise MalformedRequestError("the body is incomplete, or not framed as RFC 9112 section 6 wants it") from exc
    return bytes(body)
