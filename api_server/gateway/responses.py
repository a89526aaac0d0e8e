"""A response head: read once, checked, and rewritten once into what the client gets.

The device is not trusted. A response that two readers could frame differently would let it answer requests that are not
its own: it is refused here, and the client sees a 502 or a cut connection. `X-Homeport-*` and cookies of Homeport's are
removed, because they would speak for Homeport.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from api_server.gateway.errors import BadResponseError
from api_server.gateway.fields import (
    FieldKind,
    Framing,
    MalformedError,
    framing_line,
    framing_of,
    is_homeport_cookie,
    join_fields,
    read_response_fields,
    sort_fields,
)
from api_server.gateway.memo import Memo, sounds_secret

__all__ = ["ResponseHead", "ResponseReader", "has_no_body"]

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
"""RFC 9112 section 4. The blank after the status is missing so often that everyone takes a line without it."""

_PASSED: Final = frozenset(FieldKind) - {
    FieldKind.CODING,
    FieldKind.CONNECTION,
    FieldKind.DROPPED,
    FieldKind.LENGTH,
    FieldKind.SET_COOKIE,
    FieldKind.TE,
    FieldKind.UPGRADE,
}
"""What a client gets as it came; many kinds mean something in requests only."""

_SET_COOKIE: Final = FieldKind.SET_COOKIE
_UPGRADE: Final = FieldKind.UPGRADE
_DATE: Final = FieldKind.DATE
_UNFRAMED: Final = Framing(None, chunked=False)


class ResponseHead(NamedTuple):
    """A response, up to its body."""

    status: int
    framing: Framing
    persistent: bool
    """Whether the service keeps the connection for another request."""
    upgrade: bytes
    """What is upgraded to (101), or could be (426); empty if nothing."""
    has_date: bool
    lines: bytes
    """Status line and fields as the client gets them, without those that frame the body or are about a connection."""
    whole: bytes
    """The head as most clients get it: for HTTP/1.1, on a connection that goes on, and nothing to be added. Empty if
    something has to be."""


def has_no_body(method: bytes, status: int) -> bool:
    """Whether a response ends with its head whatever the head says (RFC 9112 section 6.3, cases 1 and 2)."""
    return method == b"HEAD" or status < 200 or status in (204, 304)


class ResponseReader:
    """Reads response heads, and remembers some: the next is often the same, whichever client it is for.

    Args:
        memo: remembers heads.
        max_fields: field lines of a head.
    """

    __slots__ = ("_max_fields", "_memo")

    def __init__(self, memo: Memo[ResponseHead], *, max_fields: int) -> None:
        self._max_fields = max_fields
        self._memo = memo

    def read(self, head: bytes) -> ResponseHead:
        """Understand a response head, complete with its empty line.

        Raises:
            BadResponseError: it is malformed.
        """
        known = self._memo.get(head)
        if known is not None:
            return known
        line = _STATUS_LINE.match(head)
        if line is None:
            raise BadResponseError("the status line is not that of HTTP/1.1 or 1.0")
        try:
            response, secret = self._understand(head, line)
        except MalformedError as exc:
            raise BadResponseError(f"the response head is malformed: {exc}") from exc
        if not secret:
            self._memo.put(head, response)
        return response

    def _understand(self, head: bytes, line: re.Match[bytes]) -> tuple[ResponseHead, bool]:
        """What the head says, and whether it holds what is not to be remembered."""
        fields = read_response_fields(head)
        if len(fields) > self._max_fields:
            raise MalformedError(f"more than {self._max_fields} fields")
        passed, special, options = sorted_fields = sort_fields(fields, _PASSED)
        http_1_1 = line[1] == b"1"
        status = int(line[2])
        framing = framing_of(sorted_fields)
        if framing.chunked and not http_1_1:
            raise MalformedError("HTTP/1.0 has no Transfer-Encoding")
        if _SET_COOKIE in special:
            cookies = special[_SET_COOKIE] if b"set-cookie" not in options else []
            passed += join_fields(cookie for cookie in cookies if not is_homeport_cookie(cookie[1]))
        takes_upgrade = _UPGRADE in special and (status == 426 or b"upgrade" in options)
        lines = b"HTTP/1.1 %b %b\r\n%b" % (line[2], line[3] or b"", passed)
        has_date = _DATE in special
        plain = status >= 200 and status != 204 and has_date and not takes_upgrade and framing != _UNFRAMED
        response = ResponseHead(
            status=status,
            framing=framing,
            persistent=b"close" not in options and (http_1_1 or b"keep-alive" in options),
            upgrade=b", ".join(sorted_fields.values(_UPGRADE)) if takes_upgrade else b"",
            has_date=has_date,
            lines=lines,
            whole=b"%b%b\r\n" % (lines, framing_line(framing)) if plain else b"",
        )
        return response, sounds_secret(name for name, _ in fields)
