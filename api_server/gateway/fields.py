"""Field sections (RFC 9110 section 5): reading one strictly, and what the gateway knows about field names.

httptools (llhttp, in its strict mode) reads: bare CR or LF, folded lines, NUL and other control characters, blanks
before the colon and empty names are errors there, as are Content-Length beside Transfer-Encoding or twice. What it is
given ends with the head, so that a body never passes through it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import httptools

__all__ = [
    "Field",
    "FieldKind",
    "Framing",
    "MalformedError",
    "SortedFields",
    "connection_options",
    "framing_line",
    "framing_of",
    "is_homeport_cookie",
    "join_fields",
    "kind_of",
    "read_request_fields",
    "read_response_fields",
    "sort_fields",
    "without_homeport_cookies",
]


class FieldKind(StrEnum):
    """What a field means to the gateway. Strings, because those are hashed in C and members of a plain enum are not."""

    PLAIN = "passed on"
    DROPPED = "never passed on: about one connection, or Homeport's own, or pretending to be another field"
    FORWARDING = "says where a request comes from or was meant for; a client's is dropped"
    HOST = "host"
    LENGTH = "content-length"
    CODING = "transfer-encoding"
    CONNECTION = "connection"
    UPGRADE = "upgrade"
    TE = "te"
    EXPECT = "expect"
    CREDENTIAL = "may carry the credential"
    COOKIE = "cookie"
    SET_COOKIE = "set-cookie"
    ORIGIN = "origin"
    FETCH_SITE = "sec-fetch-site"
    FORWARDED_FOR = "x-forwarded-for"
    FORWARDED_PROTO = "x-forwarded-proto"
    FORWARDED_HOST = "x-forwarded-host"
    TRACEPARENT = "traceparent"
    TRACESTATE = "tracestate"
    DATE = "date"
    REPRESENTATION = "passed on in a head; in a trailer it would change what the head was checked for"


_KINDS: Final = {
    b"authorization": FieldKind.CREDENTIAL,
    b"connection": FieldKind.CONNECTION,
    b"content-encoding": FieldKind.REPRESENTATION,
    b"content-length": FieldKind.LENGTH,
    b"content-range": FieldKind.REPRESENTATION,
    b"content-type": FieldKind.REPRESENTATION,
    b"cookie": FieldKind.COOKIE,
    b"date": FieldKind.DATE,
    b"expect": FieldKind.EXPECT,
    b"forwarded": FieldKind.FORWARDING,
    b"host": FieldKind.HOST,
    # RFC 7540 section 3.2.1, RFC 9110 section 7.6.1
    b"http2-settings": FieldKind.DROPPED,
    b"keep-alive": FieldKind.DROPPED,
    b"origin": FieldKind.ORIGIN,
    b"proxy-authenticate": FieldKind.DROPPED,
    b"proxy-authorization": FieldKind.DROPPED,
    b"proxy-connection": FieldKind.DROPPED,
    b"sec-fetch-site": FieldKind.FETCH_SITE,
    b"set-cookie": FieldKind.SET_COOKIE,
    b"te": FieldKind.TE,
    b"traceparent": FieldKind.TRACEPARENT,
    b"tracestate": FieldKind.TRACESTATE,
    b"trailer": FieldKind.REPRESENTATION,
    b"transfer-encoding": FieldKind.CODING,
    b"upgrade": FieldKind.UPGRADE,
    b"x-api-key": FieldKind.CREDENTIAL,
    b"x-forwarded-for": FieldKind.FORWARDED_FOR,
    b"x-forwarded-host": FieldKind.FORWARDED_HOST,
    b"x-forwarded-proto": FieldKind.FORWARDED_PROTO,
    b"x-original-url": FieldKind.FORWARDING,
    b"x-real-ip": FieldKind.FORWARDING,
    b"x-rewrite-url": FieldKind.FORWARDING,
}

# A member of an enum is found by a descriptor, which costs more than a look into the module.
_PLAIN: Final = FieldKind.PLAIN
_CONNECTION: Final = FieldKind.CONNECTION
_LENGTH: Final = FieldKind.LENGTH
_CODING: Final = FieldKind.CODING

_FRAMING_NAMES: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))

_USUAL_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))
"""What `Connection` names as a rule: no field that would be passed on."""

_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()

_COOKIE: Final = re.compile(rb"[ \t=]*(?:__Host-|__Secure-)?homeport", re.IGNORECASE)
"""Start of a cookie of Homeport's. Browsers disagree about one that starts with `=`: some read `=a=b` as a nameless
cookie, and send it back as `a=b`, which is then a cookie named a."""

_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
"""A length that fits in 63 bits. RFC 9110 section 8.6 allows digits and nothing else: no sign, no list."""

_MAX_KNOWN_NAME: Final = 40
"""Bytes of a name whose kind is remembered; longer ones would let a stranger fill the memory."""

Field = tuple[bytes, bytes]
"""Name and value, as received."""


class MalformedError(ValueError):
    """A head that cannot be read; the text says what is wrong with it, in words that hold nothing of the head."""


def _classify(name: bytes) -> FieldKind:
    lower = name.lower()
    # A service behind CGI or WSGI cannot tell X_Forwarded_For from X-Forwarded-For (RFC 3875 section 4.1.18): what is
    # held back under one name must not get through under the other, and is not what it pretends to be either.
    normal = lower.replace(b"_", b"-")
    kind = _KINDS.get(normal)
    if kind is None and normal.startswith(b"x-forwarded-"):
        kind = FieldKind.FORWARDING
    if kind is None and normal.startswith(b"x-homeport-"):
        kind = FieldKind.DROPPED
    if kind is None or kind is FieldKind.REPRESENTATION:
        return kind or FieldKind.PLAIN
    return kind if normal == lower else FieldKind.DROPPED


_known_kind = lru_cache(maxsize=2048)(_classify)


def kind_of(name: bytes) -> FieldKind:
    """What the field of that name, in any spelling, means to the gateway."""
    return _known_kind(name) if len(name) <= _MAX_KNOWN_NAME else _classify(name)


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


class SortedFields(NamedTuple):
    """A field section, sorted."""

    passed: bytes
    """The lines of all that is simply passed on."""
    special: Mapping[FieldKind, list[Field]]
    """All but the plain ones, by their kind, with values free of surrounding blanks. Whoever passes one on after all
    leaves out those that `options` names."""
    options: frozenset[bytes]
    """What `Connection` names, in lower case."""

    def values(self, kind: FieldKind) -> list[bytes]:
        """The values of the fields of a kind."""
        those = self.special.get(kind)
        return [] if those is None else [value for _, value in those]


def sort_fields(fields: list[Field], passed: frozenset[FieldKind]) -> SortedFields:
    """Sort a field section.

    Args:
        fields: of a head.
        passed: what is simply passed on, in this direction; it may also be special.

    Raises:
        MalformedError: `Connection` names a field that a message cannot do without.
    """
    parts: list[bytes] = []
    special: dict[FieldKind, list[Field]] = {}
    for field in fields:
        name, value = field
        kind = _known_kind(name) if len(name) <= _MAX_KNOWN_NAME else _classify(name)
        if kind in passed:
            parts += (name, b": ", value, b"\r\n")
        if kind is not _PLAIN:
            those = special.get(kind)
            if those is None:
                special[kind] = [(name, value.strip(b" \t"))]
            else:
                those.append((name, value.strip(b" \t")))
    connection = special.get(_CONNECTION)
    if connection is None:
        return SortedFields(b"".join(parts), special, _NO_OPTIONS)
    options = connection_options([value for _, value in connection])
    if not options <= _USUAL_OPTIONS:
        # RFC 9110 section 7.6.1: what Connection names is for this reader, and goes no further.
        kept = [field for field in fields if kind_of(field[0]) in passed and field[0].lower() not in options]
        return SortedFields(join_fields(kept), special, options)
    return SortedFields(b"".join(parts), special, options)


def connection_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """What the `Connection` fields of a message name, in lower case.

    Raises:
        MalformedError: they name a field that a message cannot do without.
    """
    options = {option.strip(b" \t").lower() for value in values for option in value.split(b",")}
    options.discard(b"")
    if not _FRAMING_NAMES.isdisjoint(options):
        raise MalformedError("Connection names a field that frames the message")
    return frozenset(options)


class Framing(NamedTuple):
    """How a message says where its body ends."""

    length: int | None
    chunked: bool


_UNFRAMED: Final = Framing(None, chunked=False)
_CHUNKED: Final = Framing(None, chunked=True)


def framing_of(fields: SortedFields) -> Framing:
    """The framing that `Content-Length` and `Transfer-Encoding` fields state together (RFC 9112 section 6).

    Raises:
        MalformedError: two of them, both of them, or one that is not understood. A coding other than `chunked` is never
            passed on, because whoever does not know it frames the body differently.
    """
    lengths = fields.special.get(_LENGTH)
    codings = fields.special.get(_CODING)
    if codings is not None:
        if lengths is not None:
            raise MalformedError("Transfer-Encoding and Content-Length together")
        if len(codings) != 1 or codings[0][1].lower() != b"chunked":
            raise MalformedError("a Transfer-Encoding other than chunked")
        return _CHUNKED
    if lengths is None:
        return _UNFRAMED
    if len(lengths) != 1 or _DIGITS.fullmatch(lengths[0][1]) is None:
        raise MalformedError("more than one Content-Length, or one that is not a length")
    return Framing(int(lengths[0][1]), chunked=False)


def framing_line(framing: Framing) -> bytes:
    """The line that states a framing; empty for none."""
    if framing.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    return b"" if framing.length is None else b"Content-Length: %d\r\n" % framing.length


def is_homeport_cookie(cookie: bytes) -> bool:
    """Whether a cookie, `name=value`, is one of Homeport's."""
    return _COOKIE.match(cookie) is not None


def without_homeport_cookies(value: bytes) -> bytes:
    """A `Cookie` value without the cookies of Homeport; empty if there were no others."""
    if b"homeport" not in value.lower():
        return value
    return b";".join(cookie for cookie in value.split(b";") if not is_homeport_cookie(cookie)).strip(b" ")


def join_fields(fields: Iterable[Field]) -> bytes:
    """The lines of a field section, each with its end; without the empty line."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])
