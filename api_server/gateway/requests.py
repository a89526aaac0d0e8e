"""A request head: read once, and rewritten once into what the service gets.

    RequestFields   what the field section says without the lines that say who asks (see `sections`)
    Caller          what those lines say, on one connection
    RequestHead     a request line with both

What does not go on: the credential that authenticated, Homeport's cookies, `X-Homeport-*`, everything that is about the
client's own connection, and what a client could use to say where it comes from (see `forwarding`).

A connection keeps the last head, and the last field section, instead of reading the next alike. Beyond the connection
RequestFields alone are remembered (see `memo`), which neither hold nor depend on who asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from api_server.auth.browsers import GATEWAY_COOKIE
from api_server.auth.credentials import Presented, presented
from api_server.gateway.errors import (
    BadRequestError,
    CrossSiteError,
    ExpectationError,
    HeadTooLargeError,
    TargetTooLongError,
)
from api_server.gateway.fields import Field, MalformedError, join_fields, without_homeport_cookies
from api_server.gateway.forwarding import Client, traceparent
from api_server.gateway.memo import Memo
from api_server.gateway.paths import SplitTarget, check_path, split_target
from api_server.gateway.sections import RequestFields, cut_carriers, understand_section
from api_server.gateway.targets import UpstreamCredential
from common.errors import HomeportError

__all__ = ["SAFE_METHODS", "Caller", "RequestHead", "RequestReader"]

_REQUEST_LINE: Final = re.compile(rb"([A-Z][A-Z\-]{0,31}) ([!-~]+) HTTP/1\.([01])\r\n")
"""RFC 9112 section 3. Every method of the IANA registry is in upper case, and no other spelling is let through."""

SAFE_METHODS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""RFC 9110 section 9.2.1."""

IDEMPOTENT_METHODS: Final = SAFE_METHODS | {b"PUT", b"DELETE"}
"""RFC 9110 section 9.2.2."""

_MAX_LINE_REST: Final = 64
"""Bytes of a request line beside the target."""

_MAX_KEPT: Final = 8 * 1024
"""Bytes of a head that its connection keeps."""

_GATEWAY_COOKIE: Final = GATEWAY_COOKIE.encode("ascii")

_NOWHERE: Final = SplitTarget(None, b"/", None)


class Caller(NamedTuple):
    """Who asks, as the lines say that were cut out, and the connection they came on."""

    credential: Presented | None
    cookies: str
    """The gateway's own: of a person who signed in. Empty for none."""
    ambient: bool
    """What is shown is what a browser adds by itself: HTTP Basic, or those cookies."""
    address: str
    """Of the client, for limits."""
    lines: bytes
    """What goes on to the service: cookies, credentials that are not ours, and `X-Forwarded-*`."""
    foreign: bool
    """There are cookies or credentials among these."""
    refusal: HomeportError | None
    """What forbids to serve it."""


class RequestHead(NamedTuple):
    """A request, up to its body. A tuple because one is made for nearly each request, and a tuple costs least."""

    method: bytes
    target: SplitTarget
    http_1_1: bool
    fields: RequestFields
    caller: Caller
    received: bytes
    """As it came."""
    refusal: HomeportError | None
    """Why it is not served, although it is well framed: the connection can go on."""

    @property
    def has_body(self) -> bool:
        """Whether a body follows; an empty one does not count."""
        return self.fields.framing.chunked or bool(self.fields.framing.length)

    @property
    def persistent(self) -> bool:
        """Whether the client keeps the connection for another request (RFC 9112 section 9.3)."""
        return not self.fields.close if self.http_1_1 else self.fields.keep_alive

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent twice, and can be: its method allows it, and there is no body that has gone by."""
        return self.method in IDEMPOTENT_METHODS and not self.has_body

    def for_service(
        self,
        path: bytes,
        prefix: bytes,
        *,
        host: bytes | None = None,
        shown: UpstreamCredential | None = None,
        added: bytes = b"",
    ) -> bytes:
        """The head as the service gets it.

        Args:
            path: what the service sees.
            prefix: what was taken off the path, for `X-Forwarded-Prefix`; empty for nothing.
            host: what it sees as Host; None for what the client said.
            shown: the credential that stands in the place of the client's; None for none.
            added: its lines.
        """
        query = self.target.query
        lines, carried = self.fields.lines, self.caller.lines
        if host is not None:
            lines = b"Host: %b\r\n%b" % (host, lines[lines.index(b"\n") + 1 :])  # the first one is the client's
        if shown is not None:
            if not shown.by_carrier:
                lines = shown.hides.sub(b"", lines)
            if self.caller.foreign:
                carried = shown.hides.sub(b"", carried)
        return b"".join(
            (
                self.method,
                b" ",
                path,
                b" HTTP/1.1\r\n" if query is None else b"?%b HTTP/1.1\r\n" % query,
                lines,
                carried,
                added,
                b"X-Forwarded-Prefix: %b\r\n" % prefix if prefix else b"",
                b"traceparent: %b\r\n\r\n" % traceparent(self.fields.trace),
            )
        )


class RequestReader:
    """Reads the request heads of one connection.

    Args:
        client: whose connection it is.
        memo: remembers field sections, for all connections.
        max_target: bytes of a request target.
        max_fields: field lines of a head.
    """

    __slots__ = ("_caller", "_client", "_fields", "_last", "_max_fields", "_max_target", "_memo", "_section")

    def __init__(self, client: Client, memo: Memo[RequestFields], *, max_target: int, max_fields: int) -> None:
        self._client = client
        self._memo = memo
        self._max_target = max_target
        self._max_fields = max_fields
        self._last: RequestHead | None = None
        self._section = b""
        """The last one; `_fields` and `_caller` are what it said."""
        self._fields: RequestFields
        self._caller: Caller

    def check_start(self, received: bytes) -> None:
        """Look at a head that has not come whole yet, so that what will never be one is not waited for.

        Raises:
            BadRequestError: it is not HTTP, or its lines end otherwise than in CR LF.
            TargetTooLongError: the request line has no end.
        """
        end = received.find(b"\r\n")
        if not received[:1].isupper() or (end >= 0 and _REQUEST_LINE.match(received) is None):
            raise BadRequestError("the request line is not that of HTTP/1.1 or 1.0")
        if end < 0 and len(received) > self._max_target + _MAX_LINE_REST:
            raise TargetTooLongError(f"the request target is longer than {self._max_target} bytes")
        if b"\n\n" in received or b"\r\r" in received:
            raise BadRequestError("lines end in CR LF (RFC 9112 section 2.2)")

    def read(self, head: bytes) -> RequestHead:
        """Understand a request head, complete with its empty line.

        Returns:
            The head, with a `refusal` if it is well framed and yet not to be served.

        Raises:
            BadRequestError, HeadTooLargeError, TargetTooLongError: where it ends, or its body, cannot be relied on.
        """
        if self._last is not None and head == self._last.received:
            return self._last  # a client that polls
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise BadRequestError("the request line is not that of HTTP/1.1 or 1.0")
        method, raw_target, minor = line.groups()
        if method == b"CONNECT":
            raise BadRequestError("this is not a proxy: CONNECT is not served")
        if len(raw_target) > self._max_target:
            raise TargetTooLongError(f"the request target is longer than {self._max_target} bytes")
        refusal: HomeportError | None = None
        try:
            target = split_target(raw_target)
            check_path(target.path)
            if target.query is not None:
                presented((), target.query)  # refuses a token in there
        except HomeportError as exc:
            refusal, target = _detached(exc), _NOWHERE
        # The version is part of what is compared, because a section may be right for one and wrong for the other.
        section = head[line.start(3) :]
        if section == self._section and target.authority is None:
            fields, caller = self._fields, self._caller
        else:
            fields, caller = self._read_section(section, target.authority)
        if refusal is None:
            refusal = caller.refusal
        if refusal is None and caller.ambient and fields.cross_site and (method not in SAFE_METHODS or fields.upgrade):
            refusal = CrossSiteError("a browser may follow links to a device, but not act on behalf of another site")
        request = RequestHead(method, target, minor == b"1", fields, caller, head, refusal)
        self._last = request if len(head) <= _MAX_KEPT else None
        return request

    def _read_section(self, section: bytes, authority: bytes | None) -> tuple[RequestFields, Caller]:
        shared, carriers = cut_carriers(section)
        try:
            fields = self._memo.get(shared) if authority is None else None
            if fields is None:
                fields = understand_section(shared, authority)
                if authority is None and fields.shareable:
                    self._memo.put(shared, fields)
            if not fields.host:
                fields = understand_section(shared, self._client.local())  # only this connection knows
            if fields.number + len(carriers) > self._max_fields:
                raise HeadTooLargeError(f"the request has more than {self._max_fields} header fields")
        except MalformedError as exc:
            raise BadRequestError(f"the request head is malformed: {exc}") from exc
        caller = self._find_caller(carriers, fields)
        if authority is None and len(section) <= _MAX_KEPT:
            self._section, self._fields, self._caller = section, fields, caller
        return fields, caller

    def _find_caller(self, carriers: list[Field], fields: RequestFields) -> Caller:
        credential, refusal = None, None
        try:
            credential = presented(carriers)
        except HomeportError as exc:
            refusal = _detached(exc)
        if fields.unexpected:
            refusal = ExpectationError("the only expectation that can be met is 100-continue")
        cookies = _gateway_cookies(carriers) if carriers and credential is None else ""
        client = self._client
        passed = _passed_on(carriers, credential, fields.options) if carriers else b""
        forwarded = client.forwarded(fields.host, fields.claims)
        return Caller(
            credential=credential,
            cookies=cookies,
            ambient=bool(cookies) or (credential is not None and _is_basic(carriers, credential)),
            address=client.original_address(fields.claims),
            lines=passed + forwarded,
            foreign=bool(passed),
            refusal=refusal,
        )


def _passed_on(carriers: list[Field], credential: Presented | None, options: frozenset[bytes]) -> bytes:
    """What the service gets of the lines that were cut out."""
    passed: list[Field] = []
    if credential is not None:
        # What carries another credential than ours is between the client and the service.
        gone = credential.headers | {b"cookie"}
        passed += [field for field in carriers if field[0].lower() not in gone]
    for name, value in carriers:
        if name.lower() == b"cookie":
            kept = without_homeport_cookies(value)
            if kept:
                passed.append((name, kept))
    return join_fields(field for field in passed if field[0].lower() not in options) if passed else b""


def _detached(error: HomeportError) -> HomeportError:
    """The error without the frames that it was raised in: it may be kept for long."""
    error.__context__ = None
    return error.with_traceback(None)


def _gateway_cookies(carriers: Iterable[Field]) -> str:
    """The cookies that the gateway itself gave to a browser, as `Cookie` says them."""
    found = [
        cookie.strip(b" \t")
        for name, value in carriers
        if _GATEWAY_COOKIE in value and name.lower() == b"cookie"
        for cookie in value.split(b";")
        if _GATEWAY_COOKIE in cookie
    ]
    return b"; ".join(found).decode("latin-1") if found else ""


def _is_basic(carriers: Iterable[Field], credential: Presented) -> bool:
    return any(name.lower() in credential.headers and value[:6].lower() == b"basic " for name, value in carriers)
