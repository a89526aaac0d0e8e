"""Which pages of other origins may read what a route answers: the CORS protocol (Fetch standard, section 3.2).

    preflight   OPTIONS with `Origin` and `Access-Control-Request-Method`: answered here, without a token, because a
                browser sends none with it; it never reaches the service
    request     goes to the service as ever; what the service says about CORS is replaced by what the route says

A browser asks for leave before it does what a form could not do, and to read the answer. Neither is protection of the
route: who may call it is decided by its credential, for each request, as without CORS.

With `credentials` a browser may also send what it adds by itself (the gateway's cookie, HTTP Basic), and act with it: a
page of an origin that is named is then trusted as the route's own pages are. That is why any origin (`*`) and
`credentials` are refused together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from api_server.gateway.requests import RequestHead

__all__ = ["CorsPolicy", "Preflight", "read_preflight", "with_cors"]

_ANY: Final = "*"

_ORIGIN: Final = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?", re.ASCII
)
"""As a browser says it (RFC 6454 section 6.2): lower case, no path, no port that the scheme has by itself."""

_DEFAULT_PORT: Final = re.compile(r"http:.*:80|https:.*:443", re.ASCII)

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
"""RFC 9110 section 5.6.2."""

_REQUEST_METHOD: Final = re.compile(rb"\r\naccess-control-request-method:[ \t]*([!-~]+)[ \t]*(?=\r\n)", re.IGNORECASE)
_REQUEST_HEADERS: Final = re.compile(rb"\r\naccess-control-request-headers:([\t -~]*)(?=\r\n)", re.IGNORECASE)

_FIELDS: Final = re.compile(rb"^access-control-(?:allow|expose|max)-[^\n]*\n", re.IGNORECASE | re.MULTILINE)
"""What a response says about CORS."""

_SAFELISTED: Final = frozenset(("accept", "accept-language", "content-language", "content-type", "range"))
"""Fetch, "CORS-safelisted request-header": a browser may ask for one of these because of its value."""

_SIMPLE_METHODS: Final = frozenset(("GET", "HEAD", "POST"))
"""Fetch, "CORS-safelisted method": no leave is asked for these by themselves."""

_VARY: Final = b"Vary: Origin\r\n"

_Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Preflight(msgspec.Struct, frozen=True):
    """What a browser asks leave for."""

    origin: str
    method: str
    headers: tuple[str, ...]
    """Names, in lower case."""


class CorsPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a route says about pages of other origins."""

    origins: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(min_length=1, max_length=64)]
    """`https://app.example.org`, or `*` for any."""
    methods: Annotated[tuple[_Name, ...], Meta(max_length=16)] = ("GET", "HEAD", "POST")
    """What a page may do; `*` for everything."""
    headers: Annotated[tuple[_Name, ...], Meta(max_length=64)] = ()
    """Names of fields that a page may send, such as `Authorization`; `*` for all."""
    exposed_headers: Annotated[tuple[_Name, ...], Meta(max_length=64)] = ()
    """Names of fields that a page may read."""
    credentials: bool = False
    """Whether a browser may send what it adds by itself: the cookie of a person who signed in, a password."""
    max_age: Annotated[int, Meta(ge=0, le=86_400)] = 600
    """Seconds that a browser may remember the leave."""

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != _ANY and (_ORIGIN.fullmatch(origin) is None or _DEFAULT_PORT.fullmatch(origin) is not None):
                raise ValueError("an origin is written https://host[:port], in lower case, or as *")
        for name in (*self.methods, *self.headers, *self.exposed_headers):
            if _TOKEN.fullmatch(name) is None:
                raise ValueError("methods and headers are names, or *")
        for method in self.methods:
            if method != method.upper():
                raise ValueError("methods are written in upper case")
        if _ANY in self.exposed_headers:
            raise ValueError("exposed_headers are named one by one")
        if self.credentials and (_ANY in self.origins or _ANY in self.headers or _ANY in self.methods):
            raise ValueError("with credentials the origins, methods and headers are named one by one")

    def allows(self, origin: str) -> bool:
        """Whether pages of an origin may read what the route answers."""
        return origin in self.origins or _ANY in self.origins

    def trusts(self, origin: bytes | None) -> bool:
        """Whether pages of an origin may act with what a browser adds by itself."""
        return self.credentials and origin is not None and origin.decode("latin-1") in self.origins

    def lines(self, origin: bytes | None) -> bytes:
        """The lines that a response to a request of an origin gets; None for a request that names none."""
        text = "" if origin is None else origin.decode("latin-1")
        if origin is None or not self.allows(text):
            return _VARY
        lines = [b"Access-Control-Allow-Origin: %b\r\n" % origin, _VARY]
        if self.credentials:
            lines.append(b"Access-Control-Allow-Credentials: true\r\n")
        if self.exposed_headers:
            lines.append(b"Access-Control-Expose-Headers: %b\r\n" % ", ".join(self.exposed_headers).encode())
        return b"".join(lines)

    def answer(self, asked: Preflight) -> bytes | None:
        """The lines of the answer to a preflight; None when the route does not give leave."""
        if not self.allows(asked.origin):
            return None
        if asked.method not in self.methods and asked.method not in _SIMPLE_METHODS and _ANY not in self.methods:
            return None
        known = _SAFELISTED.union(map(str.lower, self.headers))
        if _ANY not in self.headers and not known.issuperset(asked.headers):
            return None
        methods = asked.method if _ANY in self.methods else ", ".join(self.methods)
        headers = ", ".join(asked.headers if _ANY in self.headers else self.headers)
        return b"".join(
            (
                self.lines(asked.origin.encode("latin-1")),
                b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n",
                f"Access-Control-Allow-Methods: {methods}\r\n".encode() if methods else b"",
                f"Access-Control-Allow-Headers: {headers}\r\n".encode() if headers else b"",
                b"Access-Control-Max-Age: %d\r\n" % self.max_age,
            )
        )


def read_preflight(head: RequestHead) -> Preflight | None:
    """What a request asks leave for; None for one that is no preflight."""
    origin = head.fields.origin
    if head.method != b"OPTIONS" or origin is None or head.has_body:
        return None
    method = _REQUEST_METHOD.findall(head.received)
    if len(method) != 1:
        return None
    names = b",".join(_REQUEST_HEADERS.findall(head.received)).decode("ascii").split(",")
    return Preflight(
        origin.decode("latin-1"),
        method[0].decode("ascii"),
        tuple(filter(None, (name.strip().lower() for name in names))),
    )


def with_cors(lines: bytes, said: bytes) -> bytes:
    """The lines of a response head with what the route says about CORS in the place of what the service says.

    Args:
        lines: status line and fields.
        said: as `CorsPolicy.lines` gave it.
    """
    return _FIELDS.sub(b"", lines) + said
