"""A request head: read once, and rewritten once into what the service gets.

    RequestFields   what the field section says, and the lines of it that go on; the same for two requests with the same
                    fields, so a connection keeps the last one instead of reading the next alike
    RequestHead     a request line with its fields

What does not go on: the credential that authenticated, Homeport's cookies, `X-Homeport-*`, everything that is about the
client's own connection, and what a client could use to say where it comes from (see `forwarding`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from api_server.auth.credentials import Presented, presented
from api_server.gateway.errors import (
    BadRequestError,
    CrossSiteError,
    ExpectationError,
    HeadTooLargeError,
    TargetTooLongError,
)
from api_server.gateway.fields import (
    Field,
    FieldKind,
    Framing,
    MalformedError,
    SortedFields,
    framing_line,
    framing_of,
    join_fields,
    read_request_fields,
    sort_fields,
    without_homeport_cookies,
)
from api_server.gateway.forwarding import Client, is_traceparent, traceparent
from api_server.gateway.paths import SplitTarget, check_path, is_authority, split_target
from common.errors import HomeportError

__all__ = ["SAFE_METHODS", "RequestFields", "RequestHead", "RequestReader"]

_REQUEST_LINE: Final = re.compile(rb"([A-Z][A-Z\-]{0,31}) ([!-~]+) HTTP/1\.([01])\r\n")
"""RFC 9112 section 3. Every method of the IANA registry is in upper case, and no other spelling is let through."""

SAFE_METHODS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""RFC 9110 section 9.2.1."""

IDEMPOTENT_METHODS: Final = SAFE_METHODS | {b"PUT", b"DELETE"}
"""RFC 9110 section 9.2.2."""

_MAX_LINE_REST: Final = 64
"""Bytes of a request line beside the target."""

_PASSED: Final = frozenset(
    (
        FieldKind.PLAIN,
        FieldKind.REPRESENTATION,
        FieldKind.DATE,
        FieldKind.ORIGIN,
        FieldKind.FETCH_SITE,
        FieldKind.SET_COOKIE,
    )
)
"""What a service gets as it came."""

_NOWHERE: Final = SplitTarget(None, b"/", None)


class RequestFields(NamedTuple):
    """A field section, understood."""

    host: bytes
    framing: Framing
    close: bool
    """`Connection: close`."""
    keep_alive: bool
    """`Connection: keep-alive`, which an HTTP/1.0 client must say."""
    upgrade: bytes
    """What the client wants to upgrade to, as it said it; empty if nothing."""
    expects_continue: bool
    credential: Presented | None
    ambient: bool
    """The credential is one that a browser adds by itself (HTTP Basic)."""
    cross_site: bool
    """A browser says that another site makes it ask."""
    address: str
    """Of the client, for limits."""
    trace: bytes | None
    """The `traceparent` that came with it."""
    lines: bytes
    """What goes on to the service, but for `traceparent` and `X-Forwarded-Prefix`."""
    refusal: HomeportError | None
    """What forbids to serve it."""


class RequestHead(NamedTuple):
    """A request, up to its body. A tuple because one is made for each request, and a tuple costs least."""

    method: bytes
    target: SplitTarget
    http_1_1: bool
    fields: RequestFields
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

    def for_service(self, path: bytes, prefix: bytes) -> bytes:
        """The head as the service gets it.

        Args:
            path: what the service sees.
            prefix: what was taken off the path, for `X-Forwarded-Prefix`; empty for nothing.
        """
        query = self.target.query
        return b"".join(
            (
                self.method,
                b" ",
                path,
                b" HTTP/1.1\r\n" if query is None else b"?%b HTTP/1.1\r\n" % query,
                self.fields.lines,
                b"X-Forwarded-Prefix: %b\r\n" % prefix if prefix else b"",
                b"traceparent: %b\r\n\r\n" % traceparent(self.fields.trace),
            )
        )


class RequestReader:
    """Reads the request heads of one connection.

    Args:
        client: whose connection it is.
        max_target: bytes of a request target.
        max_fields: field lines of a head.
    """

    __slots__ = ("_client", "_last", "_last_section", "_max_fields", "_max_target")

    def __init__(self, client: Client, *, max_target: int, max_fields: int) -> None:
        self._client = client
        self._max_target = max_target
        self._max_fields = max_fields
        self._last: RequestFields | None = None
        self._last_section = b""

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
            refusal, target = exc, _NOWHERE
        fields = self._fields(head, line, target.authority)
        if refusal is None:
            refusal = fields.refusal
        if refusal is None and fields.ambient and fields.cross_site and (method not in SAFE_METHODS or fields.upgrade):
            refusal = CrossSiteError("a browser may follow links to a device, but not act on behalf of another site")
        return RequestHead(method, target, minor == b"1", fields, head, refusal)

    def _fields(self, head: bytes, line: re.Match[bytes], authority: bytes | None) -> RequestFields:
        # The version is part of what is compared, because a section may be right for one and wrong for the other.
        section = head[line.start(3) :]
        if self._last is not None and section == self._last_section and authority is None:
            return self._last
        fields = self._understand(section, authority)
        if authority is None:
            self._last, self._last_section = fields, section
        return fields

    def _understand(self, section: bytes, authority: bytes | None) -> RequestFields:
        http_1_1 = section.startswith(b"1")
        try:
            # With a request line of ours: theirs has been checked, and must not change what the fields mean.
            fields = read_request_fields(b"GET / HTTP/1." + section)
            if len(fields) > self._max_fields:
                raise HeadTooLargeError(f"the request has more than {self._max_fields} header fields")
            return self._decide(sort_fields(fields, _PASSED), http_1_1, authority)
        except MalformedError as exc:
            raise BadRequestError(f"the request head is malformed: {exc}") from exc

    def _decide(self, fields: SortedFields, http_1_1: bool, authority: bytes | None) -> RequestFields:
        framing = framing_of(fields)
        if framing.chunked and not http_1_1:
            # RFC 9112 section 6.1: such a message must be treated as if its framing was faulty.
            raise MalformedError("HTTP/1.0 has no Transfer-Encoding")
        host = self._host(fields.values(FieldKind.HOST), http_1_1, authority)
        options = fields.options
        upgrade = _upgrade(fields.values(FieldKind.UPGRADE)) if http_1_1 and b"upgrade" in options else b""
        trailers = b"te" in options and any(b"trailers" in value.lower() for value in fields.values(FieldKind.TE))
        carriers = fields.special.get(FieldKind.CREDENTIAL, [])
        refusal: HomeportError | None = None
        credential = None
        try:
            credential = presented(carriers)
        except HomeportError as exc:
            refusal = exc
        expect = b", ".join(fields.values(FieldKind.EXPECT)).lower()
        if expect not in (b"", b"100-continue"):
            refusal = ExpectationError("the only expectation that can be met is 100-continue")
        # RFC 9110 section 10.1.1: from an HTTP/1.0 client it is to be ignored.
        expects_continue = bool(expect) and http_1_1
        traces = fields.values(FieldKind.TRACEPARENT)
        trace = traces[0] if len(traces) == 1 and is_traceparent(traces[0]) else None
        lines = (
            b"Host: %b\r\n" % host,
            fields.passed,
            _passed_on(fields, credential, with_state=trace is not None),
            framing_line(framing),
            _connection_lines(upgrade, trailers=trailers) if upgrade or trailers else b"",
            b"Expect: 100-continue\r\n" if expects_continue else b"",
            self._client.forwarded(host, fields),
        )
        return RequestFields(
            host=host,
            framing=framing,
            close=b"close" in options,
            keep_alive=b"keep-alive" in options,
            upgrade=upgrade,
            expects_continue=expects_continue,
            credential=credential,
            ambient=credential is not None and _is_basic(carriers, credential),
            cross_site=_is_cross_site(fields, host),
            address=self._client.original_address(fields),
            trace=trace,
            lines=b"".join(lines),
            refusal=refusal,
        )

    def _host(self, hosts: list[bytes], http_1_1: bool, authority: bytes | None) -> bytes:
        """The one host that the request is for (RFC 9112 section 3.2)."""
        if len(hosts) > 1 or (http_1_1 and not hosts):
            raise MalformedError("a request has one Host")
        if hosts and not is_authority(hosts[0]):
            raise MalformedError("the Host is not a host")
        if authority is not None:
            return authority
        return hosts[0] if hosts else self._client.local


def _passed_on(fields: SortedFields, credential: Presented | None, *, with_state: bool) -> bytes:
    """The lines of the special fields that the service gets."""
    special = fields.special
    passed: list[Field] = []
    if credential is not None:
        # What carries another credential than ours is between the client and the service.
        carriers = special.get(FieldKind.CREDENTIAL, ())
        passed += [field for field in carriers if field[0].lower() not in credential.headers]
    for name, value in special.get(FieldKind.COOKIE, ()):
        kept = without_homeport_cookies(value)
        if kept:
            passed.append((name, kept))
    if with_state:
        # The state belongs to the trace (W3C Trace Context, section 3.3): without the one the other means nothing.
        passed += special.get(FieldKind.TRACESTATE, ())
    return join_fields(field for field in passed if field[0].lower() not in fields.options) if passed else b""


def _upgrade(values: Iterable[bytes]) -> bytes:
    """What may be upgraded to. `h2c` is not passed on: it would let requests through that nobody here has read
    (RFC 9113 section 3.1 has withdrawn it).
    """
    protocols = [protocol.strip(b" \t") for value in values for protocol in value.split(b",")]
    return b", ".join(protocol for protocol in protocols if protocol and not protocol.lower().startswith(b"h2c"))


def _connection_lines(upgrade: bytes, *, trailers: bool) -> bytes:
    """What the gateway says about its own connection to the service (RFC 9110 sections 7.6.1, 7.8 and 10.1.4)."""
    options = b", ".join([*([b"Upgrade"] if upgrade else ()), *([b"TE"] if trailers else ())])
    return b"".join(
        (
            b"Connection: %b\r\n" % options,
            b"Upgrade: %b\r\n" % upgrade if upgrade else b"",
            b"TE: trailers\r\n" if trailers else b"",
        )
    )


def _is_basic(carriers: Iterable[Field], credential: Presented) -> bool:
    return any(name.lower() in credential.headers and value[:6].lower() == b"basic " for name, value in carriers)


def _is_cross_site(fields: SortedFields, host: bytes) -> bool:
    """Whether a browser says that the request was made by a page of another origin (Fetch Metadata; RFC 6454)."""
    sites = fields.values(FieldKind.FETCH_SITE)
    if sites:
        return any(site not in (b"same-origin", b"none") for site in sites)
    return any(origin.partition(b"://")[2].lower() != host.lower() for origin in fields.values(FieldKind.ORIGIN))
