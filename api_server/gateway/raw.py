"""How a client asks for raw TCP: `Upgrade: homeport-tcp`, or a WebSocket handshake, on `/t/{team}/{device}/{service}`.

Both are checked before the service is dialled, and answered with 101 only when it has been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from api_server.gateway.core import GatewayCore
from api_server.gateway.errors import BadRequestError, UpgradeRequiredError
from api_server.gateway.requests import RequestHead
from api_server.gateway.splice import Splice
from api_server.gateway.targets import ServiceStream, StreamSource
from api_server.gateway.websocket import WebSocketSplice, WebSocketUpgrade

if TYPE_CHECKING:
    from api_server.gateway.connection import ClientConnection

__all__ = ["RawUpgrade", "TcpUpgrade", "raw_upgrade"]

_TCP: Final = b"homeport-tcp"
_WEBSOCKET: Final = b"websocket"

_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"


class RawUpgrade(Protocol):
    """What a client becomes once its service is there."""

    def begin(
        self, core: GatewayCore, connection: ClientConnection, stream: ServiceStream, source: StreamSource
    ) -> Splice | WebSocketSplice:
        """Answer 101, and join the client with the stream, which came from `source`."""
        ...


class TcpUpgrade:
    """Bytes as they are."""

    __slots__ = ()

    def begin(
        self,
        core: GatewayCore,
        connection: ClientConnection,
        stream: ServiceStream,
        source: StreamSource,  # noqa: ARG002  a stream that was raw serves nobody else
    ) -> Splice:
        connection.write(_SWITCHING)
        return Splice(core, connection, stream)


def raw_upgrade(head: RequestHead) -> RawUpgrade:
    """What the request wants to become.

    Raises:
        UpgradeRequiredError: nothing that carries raw TCP.
        BadRequestError: it has a body, which would have to be sent before the upgrade; or its handshake is wrong.
    """
    if head.has_body:
        raise BadRequestError("a request for raw TCP has no body; what follows its head is the connection")
    wanted = {protocol.strip().lower() for protocol in head.fields.upgrade.split(b",")}
    if _TCP in wanted:
        return TcpUpgrade()
    if _WEBSOCKET in wanted:
        return WebSocketUpgrade(head)
    raise UpgradeRequiredError("ask for raw TCP by `Upgrade: homeport-tcp`, or by a WebSocket handshake")
