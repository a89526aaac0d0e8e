"""Requests into the structs that a handler declares, and its results into bytes.

    path, query     text, converted and checked: 422 validation_failed
    body            must say that it is JSON (415), be no longer than the limit (413), arrive in time (408), be JSON
                    (400) and be what the struct says (422)
    form            the same, as application/x-www-form-urlencoded: what OAuth and browsers send

An unknown or repeated parameter is refused, as is an unknown field: a misspelt limit must not mean "no limit". So is
text with a NUL, wherever it stands: PostgreSQL cannot keep it, and no handler has to think of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

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

__all__ = ["FORM", "bind_body", "bind_form", "bind_text", "encode_json"]

encode_json = msgspec.json.Encoder().encode

FORM = "application/x-www-form-urlencoded"

_MAX_FIELDS = 32

_NUL = "\0"

_ESCAPED_NUL = b"\\u0000"
"""The one way in which JSON can say it; it also stands in the text `\\\\u0000`, where it is none."""

_BODY_TIMEOUT = 30.0
"""Seconds for the whole body, which is at most `max_request_bytes` long."""


def bind_text(source: str, items: Iterable[tuple[str, str]], type_: type[Any]) -> Any:
    """The struct that text parameters make.

    Args:
        source: `path`, `query` or `form`, for the error.
        items: names and values, decoded.
        type_: the struct.

    Raises:
        ValidationFailedError: they make none.
    """
    given: dict[str, str] = {}
    for name, value in items:
        if name in given:
            raise ValidationFailedError(f"{source}: a parameter is given twice")
        if _NUL in value:
            raise ValidationFailedError(f"{source}: a parameter holds a NUL")
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
    _refuse_encoded(request)
    body = await _read(request, limit) if request.body_exists else b"{}"
    try:
        decoded = decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise ValidationFailedError(f"body: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedJsonError(f"body: {exc}") from exc
    if _ESCAPED_NUL in body and _holds_nul(msgspec.to_builtins(decoded)):
        raise ValidationFailedError("body: a text holds a NUL")
    return decoded


async def bind_form(request: web.Request, type_: type[Any], limit: int) -> Any:
    """The struct that the form body makes. No body at all counts as an empty form.

    Args:
        request: with its body unread.
        type_: the struct.
        limit: bytes.

    Raises:
        BodyTooLargeError, MalformedRequestError, RequestTimeoutError, UnsupportedMediaTypeError,
        ValidationFailedError: see the table above.
    """
    if request.body_exists and request.content_type != FORM:
        raise UnsupportedMediaTypeError(f"send the body as Content-Type: {FORM}")
    _refuse_encoded(request)
    body = await _read(request, limit) if request.body_exists else b""
    try:
        items = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as exc:
        raise ValidationFailedError("form: not UTF-8, or too many fields") from exc
    return bind_text("form", items, type_)


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return _NUL in value
        case list():
            return any(map(_holds_nul, value))
        case dict():
            return any(_holds_nul(each) for pair in value.items() for each in pair)
        case _:
            return False


def _refuse_encoded(request: web.Request) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("send the body without a Content-Encoding")


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
