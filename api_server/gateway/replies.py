"""What the gateway answers by itself, without a service: replies, and errors.

After either the client's connection goes on if that is safe. What a client still sends of the body of a refused request
is read and thrown away if it is little and its end is known; else the connection ends with the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from api_server.auth.errors import UnauthenticatedError
from api_server.gateway.browsers import has_fetch_metadata
from api_server.gateway.core import GatewayCore
from api_server.gateway.errors import BadResponseError
from api_server.gateway.framing import Body, LengthBody
from api_server.gateway.requests import RequestHead
from api_server.gateway.routes import Route
from common.errors import HomeportError

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["Reply", "refuse", "respond"]

_DISCARDED: Final = 64 * 1024
"""Bytes of a refused request's body that are read and thrown away so that the connection can go on."""


class Reply(NamedTuple):
    """An answer that is no error."""

    status: int
    make: Callable[..., bytes]
    """Makes the response of `close` and `now`."""


def respond(core: GatewayCore, connection: ClientConnection, reply: Reply, *, persistent: bool, unread: bool) -> None:
    """Give a reply; the request is over with it.

    Args:
        core: the gateway's.
        connection: the client's.
        reply: the answer.
        persistent: the connection goes on.
        unread: some of the request's body has not come.
    """
    if connection.ticket is not None:
        connection.ticket.status = reply.status
    core.metrics.responses[reply.status] += 1
    connection.write(reply.make(close=not persistent, now=core.clock.wall()))
    connection.finish(core.clock.monotonic(), persistent=persistent, unread=unread)


def refuse(
    core: GatewayCore,
    connection: ClientConnection,
    head: RequestHead,
    error: HomeportError,
    *,
    body: Body,
    held: int,
    route: Route | None,
    cors: bytes | None,
) -> bool:
    """Answer with an error.

    Args:
        core: the gateway's.
        connection: the client's.
        head: of the request.
        error: the answer.
        body: of the request, as far as it has been taken.
        held: bytes of it that have come beyond that.
        route: that the request takes; None if that is not known, or there is none.
        cors: lines by which a page of another origin may read the error; None for none.

    Returns:
        Whether the request is over. If not, the rest of its body is to be thrown away before the next one.
    """
    rest = body.remaining - held if isinstance(body, LengthBody) else 0
    readable = body.complete or (
        isinstance(body, LengthBody) and rest <= _DISCARDED and not head.fields.expects_continue
    )
    close = (
        not readable
        or not head.persistent
        or core.draining
        or isinstance(error, BadResponseError)  # its sender may have more in store
    )
    connection.write_problem(
        error,
        close=close,
        realm=route.target.realm if route is not None else None,
        head_only=head.method == b"HEAD",
        added=cors or b"",
        # Whoever can sign in is not asked for a password by each script of a page.
        password=not isinstance(error, UnauthenticatedError) or core.browsers is None or not has_fetch_metadata(head),
    )
    if close or body.complete:
        connection.finish(core.clock.monotonic(), persistent=not close, unread=not body.complete)
        return True
    return False
