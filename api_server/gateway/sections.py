"""The field section of a request, understood once for all who send the same.

    section ──cut_carriers──> carriers: the lines that may say who asks (Authorization, Cookie, X-API-Key)
                   └────────> the rest ──understand_section──> RequestFields

What is shared must not depend on who asks, nor hold it. So the carriers are cut out of the bytes first, what is left is
read by itself, and everything here is a function of bytes: there is no connection, client or identity to be had.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

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
)
from api_server.gateway.forwarding import Claims, is_traceparent, read_claims
from api_server.gateway.memo import sounds_secret
from api_server.gateway.paths import is_authority

__all__ = ["RequestFields", "cut_carriers", "understand_section"]

_CARRIER: Final = re.compile(rb"\r\n((?i:authorization|cookie|x-api-key)):([\t -~\x80-\xff]*)(?=\r\n[^\t ])")
"""A line that may say who asks, whole (RFC 9112 section 5.1). One that is anything else than name, colon, value is left
where it is, and refused with the section it is in."""

_CARRIERS: Final = frozenset((FieldKind.CREDENTIAL, FieldKind.COOKIE))

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


class RequestFields(NamedTuple):
    """A field section without its carriers, understood. Shared between clients: nothing here may depend on
    anything but the bytes of the section, nor be changed.
    """

    number: int
    """Of fields in it."""
    host: bytes
    """Empty if an HTTP/1.0 request does not say."""
    framing: Framing
    close: bool
    """`Connection: close`."""
    keep_alive: bool
    """`Connection: keep-alive`, which an HTTP/1.0 client must say."""
    options: frozenset[bytes]
    """All that `Connection` names, in lower case."""
    upgrade: bytes
    """What the client wants to upgrade to, as it said it; empty if nothing."""
    expects_continue: bool
    unexpected: bool
    """It expects something else, which nobody can meet."""
    cross_site: bool
    """A browser says that another site makes it ask."""
    origin: bytes | None
    """Of the page that a browser says makes it ask; None for none."""
    claims: Claims | None
    """What it says about where it comes from."""
    trace: bytes | None
    """The `traceparent` that came with it."""
    lines: bytes
    """What goes on to the service as it came."""
    shareable: bool
    """It may be remembered for other connections: no field of it sounds of a secret."""


def cut_carriers(section: bytes) -> tuple[bytes, list[Field]]:
    """Take the lines out of a section that may say who asks.

    Args:
        section: from the line end of the request line to the empty line, with whatever stands before it.

    Returns:
        The rest, and names and values of those lines.
    """
    carriers = _CARRIER.findall(section)
    if not carriers:
        return section, carriers
    return _CARRIER.sub(b"", section), [(name, value.strip(b" \t")) for name, value in carriers]


def understand_section(section: bytes, authority: bytes | None) -> RequestFields:
    """What a section says that carriers were cut out of.

    Args:
        section: the minor version of HTTP, a line end, the fields, and the empty line.
        authority: host and port that stand for those of the section; None for none.

    Raises:
        MalformedError: it cannot be relied on.
    """
    # With a request line of ours: theirs has been checked, and must not change what the fields mean.
    received = read_request_fields(b"GET / HTTP/1." + section)
    fields = sort_fields(received, _PASSED)
    if not _CARRIERS.isdisjoint(fields.special):
        raise MalformedError("a credential that is not in a line of its own")
    return _decide(received, fields, section.startswith(b"1"), authority)


def _decide(received: list[Field], fields: SortedFields, http_1_1: bool, authority: bytes | None) -> RequestFields:
    framing = framing_of(fields)
    if framing.chunked and not http_1_1:
        # RFC 9112 section 6.1: such a message must be treated as if its framing was faulty.
        raise MalformedError("HTTP/1.0 has no Transfer-Encoding")
    host = _host(fields.values(FieldKind.HOST), http_1_1, authority)
    options = fields.options
    upgrade = _upgrade(fields.values(FieldKind.UPGRADE)) if http_1_1 and b"upgrade" in options else b""
    trailers = b"te" in options and any(b"trailers" in value.lower() for value in fields.values(FieldKind.TE))
    expect = b", ".join(fields.values(FieldKind.EXPECT)).lower()
    # RFC 9110 section 10.1.1: from an HTTP/1.0 client it is to be ignored.
    expects_continue = bool(expect) and http_1_1
    traces = fields.values(FieldKind.TRACEPARENT)
    trace = traces[0] if len(traces) == 1 and is_traceparent(traces[0]) else None
    # The state belongs to the trace (W3C Trace Context, section 3.3): without the one the other means nothing.
    states = fields.special.get(FieldKind.TRACESTATE, ()) if trace is not None else ()
    lines = (
        b"Host: %b\r\n" % host,
        fields.passed,
        join_fields(field for field in states if field[0].lower() not in options) if states else b"",
        framing_line(framing),
        _connection_lines(upgrade, trailers=trailers) if upgrade or trailers else b"",
        b"Expect: 100-continue\r\n" if expects_continue else b"",
    )
    return RequestFields(
        number=len(received),
        host=host,
        framing=framing,
        close=b"close" in options,
        keep_alive=b"keep-alive" in options,
        options=options,
        upgrade=upgrade,
        expects_continue=expects_continue,
        unexpected=expect not in (b"", b"100-continue"),
        cross_site=_is_cross_site(fields, host),
        origin=_origin(fields),
        claims=read_claims(fields),
        trace=trace,
        lines=b"".join(lines),
        shareable=not sounds_secret(name for name, _ in received),
    )


def _host(hosts: list[bytes], http_1_1: bool, authority: bytes | None) -> bytes:
    """The one host that the request is for (RFC 9112 section 3.2); empty if an HTTP/1.0 request does not say."""
    if len(hosts) > 1 or (http_1_1 and not hosts):
        raise MalformedError("a request has one Host")
    if hosts and not is_authority(hosts[0]):
        raise MalformedError("the Host is not a host")
    if authority is not None:
        return authority
    return hosts[0] if hosts else b""


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


def _origin(fields: SortedFields) -> bytes | None:
    values = fields.values(FieldKind.ORIGIN)
    return values[0] if len(values) == 1 else None


def _is_cross_site(fields: SortedFields, host: bytes) -> bool:
    """Whether a browser says that the request was made by a page of another origin (Fetch Metadata; RFC 6454)."""
    sites = fields.values(FieldKind.FETCH_SITE)
    if sites:
        return any(site not in (b"same-origin", b"none") for site in sites)
    return any(origin.partition(b"://")[2].lower() != host.lower() for origin in fields.values(FieldKind.ORIGIN))
