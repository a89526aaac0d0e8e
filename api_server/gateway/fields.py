"""Field sections (RFC 9110 section 5): reading one strictly, and what the gateway knows about field names.

httptools (llhttp, in its strict mode) reads: bare CR or LF, folded lines, NUL and other control characters, blanks
before the colon and empty names are errors there, as are Content-Length beside Transfer-Encoding or twice. What it is
given ends with the head, so that a body never passes through it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import httptools

__all__ = [
    "CONNECTION_FIELDS",
    "FRAMING_FIELDS",
    "Field",
    "Framing",
    "MalformedError",
    "connection_options",
    "framing_of",
    "is_homeport_cookie",
    "is_reserved",
    "join_fields",
    "normal_name",
    "read_request_fields",
    "read_response_fields",
    "without_homeport_cookies",
]

CONNECTION_FIELDS: Final = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that are about one connection and end there (RFC 9110 section 7.6.1, RFC 7540 section 3.2.1)."""

FRAMING_FIELDS: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Fields that decide where a message ends or goes. `Connection` must not name them: it would make them vanish here."""

_COOKIE: Final = re.compile(rb"[ \t=]*(?:__Host-|__Secure-)?homeport", re.IGNORECASE)
"""Start of a cookie of Homeport's. Browsers disagree about one that starts with `=`: some read `=a=b` as a nameless
cookie, and send it back as `a=b`, which is then a cookie named a."""

_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
"""A length that fits in 63 bits. RFC 9110 section 8.6 allows digits and nothing else: no sign, no list."""

Field = tuple[bytes, bytes]
"""Name, as received, and value, without the blanks around it."""


class MalformedError(ValueError):
    """A head that cannot be read; the text says what is wrong with it, in words that hold nothing of the head."""


class _Reader:
    """httptools' callbacks."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_request_fields(head: bytes) -> list[Field]:
    """The fields of a request head, which ends with its empty line.

    Raises:
        MalformedError: the head is not one.
    """
    reader = _Reader()
    return _read(head, reader, httptools.HttpRequestParser(reader))


def read_response_fields(head: bytes) -> list[Field]:
    """The fields of a response head, which ends with its empty line.

    Raises:
        MalformedError: the head is not one.
    """
    reader = _Reader()
    return _read(head, reader, httptools.HttpResponseParser(reader))


def _read(
    head: bytes, reader: _Reader, parser: httptools.HttpRequestParser | httptools.HttpResponseParser
) -> list[Field]:
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # raised at the end of a head that asks for an upgrade
    except httptools.HttpParserError as exc:
        raise MalformedError(str(exc)) from exc
    if not reader.complete:
        raise MalformedError("the head has no end")
    return reader.fields


def normal_name(name: bytes) -> bytes:
    """The name as it is compared: lower case, and with hyphens for underscores.

    A service behind CGI or WSGI cannot tell `X_Forwarded_For` from `X-Forwarded-For` (RFC 3875 section 4.1.18); what is
    removed under one name must not get through under the other.
    """
    name = name.lower()
    return name.replace(b"_", b"-") if b"_" in name else name


def is_reserved(normal: bytes) -> bool:
    """Whether the field is Homeport's own, and neither side may send it through the gateway."""
    return normal.startswith(b"x-homeport-")


def connection_options(values: Iterable[bytes]) -> set[bytes]:
    """What the `Connection` fields of a message name, in lower case.

    Raises:
        MalformedError: they name a field that a message cannot do without.
    """
    options = {option.strip(b" \t").lower() for value in values for option in value.split(b",")}
    options.discard(b"")
    if not FRAMING_FIELDS.isdisjoint(options):
        raise MalformedError("Connection names a field that frames the message")
    return options


class Framing(NamedTuple):
    """How a message says where its body ends."""

    length: int | None
    chunked: bool


def framing_of(lengths: list[bytes], codings: list[bytes]) -> Framing:
    """The framing that `Content-Length` and `Transfer-Encoding` fields state together (RFC 9112 section 6).

    Raises:
        MalformedError: two of them, both of them, or one that is not understood. A coding other than `chunked` is never
            passed on, because whoever does not know it frames the body differently.
    """
    if codings:
        if lengths:
            raise MalformedError("Transfer-Encoding and Content-Length together")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise MalformedError("a Transfer-Encoding other than chunked")
        return Framing(None, chunked=True)
    if not lengths:
        return Framing(None, chunked=False)
    if len(lengths) != 1 or _DIGITS.fullmatch(lengths[0]) is None:
        raise MalformedError("more than one Content-Length, or one that is not a length")
    return Framing(int(lengths[0]), chunked=False)


def is_homeport_cookie(cookie: bytes) -> bool:
    """Whether a cookie, `name=value`, is one of Homeport's."""
    return _COOKIE.match(cookie) is not None


def without_homeport_cookies(value: bytes) -> bytes:
    """A `Cookie` value without the cookies of Homeport; empty if there were no others."""
    if b"omeport" not in value.lower():
        return value
    return b";".join(cookie for cookie in value.split(b";") if not is_homeport_cookie(cookie)).strip(b" ")


def join_fields(fields: Iterable[Field]) -> bytes:
    """The lines of a field section, each with its end; without the empty line."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])
