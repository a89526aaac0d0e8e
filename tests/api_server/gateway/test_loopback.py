"""What does not leave the machine is not paced: clients of a gateway on loopback, and streams to a relay there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from api_server.relay.stream import RelayStream
from tests.api_server.gateway.memory import SESSION, WEB, Wire
from tests.api_server.gateway.stage import Stage


def congestion_control(sock: Any) -> bytes:
    control: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return control.rstrip(b"\0")


class Dialled(Wire):
    """A connection to a relay at some address."""

    def __init__(self, peer: tuple[str, int], sock: socket.socket) -> None:
        super().__init__()
        self._known = {"peername": peer, "socket": sock}

    def get_extra_info(self, name: str) -> Any:
        return self._known.get(name)


@pytest.mark.parametrize(("host", "unpaced"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_a_stream_to_a_relay_on_loopback_is_not_paced(host: str, unpaced: bool) -> None:
    with socket.socket() as sock:
        usual = congestion_control(sock)
        stream = RelayStream(SESSION, WEB, request=b"open", answered=None)  # type: ignore[arg-type]
        stream.connection_made(Dialled((host, 3801), sock))  # type: ignore[arg-type]
        assert congestion_control(sock) == (b"reno" if unpaced else usual)


@pytest.mark.anyio
async def test_what_a_gateway_on_loopback_accepts_is_not_paced() -> None:
    async with Stage() as stage:
        server = stage.gateway._server
        assert server is not None
        assert [congestion_control(listening) for listening in server.sockets] == [b"reno"]
