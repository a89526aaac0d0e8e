"""A response head: read once, checked, and rewritten once into what the client gets.

The device is not trusted. A response that two readers could frame differently would let it answer requests that are not
its own: it is refused here, and the client sees a 502 or a cut connection. `X-Homeport-*` and cookies of Homeport's are
removed, because they would speak for Homeport.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from api_server.gateway.errors import BadResponseError
from api_server.gateway.fields import (
    CONNECTION_FIELDS,
    Framing,
    MalformedError,
    connection_options,
    framing_of,
    is_homeport_cookie,
    is_reserved,
    join_fields,
    normal_name,
    read_response_fields,
)

__all__ = ["ResponseHead", "ResponseReader", "has_no_body"]

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
"""RFC 9112 section 4. The blank after the status is missing so often that everyone takes a line without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
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

    @property
    def informational(self) -> bool:
        """Whether another head follows."""
        return self.status < 200


def has_no_body(method: bytes, status: int) -> bool:
    """Whether a response ends with its head whatever the head says (RFC 9112 section 6.3, cases 1 and 2)."""
    return method == b"HEAD" or status < 200 or status in (204, 304)


class ResponseReader:
    """Reads response heads; keeps the last one, because the next is often the same.

    Args:
        max_fields: field lines of a head.
    """

    __slots__ = ("_last", "_last_head", "_max_fields")

    def __init__(self, *, max_fields: int) -> None:
        self._max_fields = max_fields
        self._last: ResponseHead | None = None
        self._last_head = b""

    def read(self, head: bytes) -> ResponseHead:
        """Understand a response head, complete with its empty line.

        Raises:
            BadResponseError: it is malformed.
        """
        if self._last is not None and head == self._last_head:
            return self._last
        line = _STATUS_LINE.match(head)
        if line is None:
            raise BadResponseError("the status line is not that of HTTP/1.1 or 1.0")
        try:
            response = self._understand(head, line)
        except MalformedError as exc:
            raise BadResponseError(f"the response head is malformed: {exc}") from exc
        self._last, self._last_head = response, head
        return response

    def _understand(self, head: bytes, line: re.Match[bytes]) -> ResponseHead:
        fields = read_response_fields(head)
        if len(fields) > self._max_fields:
            raise MalformedError(f"more than {self._max_fields} fields")
        http_1_1 = line[1] == b"1"
        status = int(line[2])
        lengths: list[bytes] = []
        codings: list[bytes] = []
        connection: list[bytes] = []
        upgrade = b""
        passed = []
        for name, value in fields:
            normal = normal_name(name)
            stripped = value.strip(b" \t")
            if normal == b"content-length":
                lengths.append(stripped)
            elif normal in CONNECTION_FIELDS:
                if normal == b"transfer-encoding":
                    codings.append(stripped)
                elif normal == b"connection":
                    connection.append(stripped)
                elif normal == b"upgrade":
                    upgrade = stripped
            elif not is_reserved(normal) and not (normal == b"set-cookie" and is_homeport_cookie(value)):
                passed.append((normal, (name, stripped)))
        framing = framing_of(lengths, codings)
        if framing.chunked and not http_1_1:
            raise MalformedError("HTTP/1.0 has no Transfer-Encoding")
        options = connection_options(connection)
        return ResponseHead(
            status=status,
            framing=framing,
            persistent=b"close" not in options and (http_1_1 or b"keep-alive" in options),
            upgrade=upgrade if status == 426 or b"upgrade" in options else b"",
            has_date=any(normal == b"date" for normal, _ in passed),
            lines=b"HTTP/1.1 %b %b\r\n" % (line[2], line[3] or b"")
            + join_fields(field for normal, field in passed if normal not in options),
        )
