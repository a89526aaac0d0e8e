"""A taken port is named, with the flag that chooses another."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from homeport.up.errors import PortInUseError
from homeport.up.ports import Listener, check_free


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield request.param, server.getsockname()[1]


def test_a_taken_port(taken: tuple[str, int]) -> None:
    host, port = taken
    with pytest.raises(PortInUseError) as refused:
        check_free([Listener("the API", host, 0, "--api-port"), Listener("the gateway", host, port, "--gateway-port")])
    assert str(refused.value) == (
        f"port {port}, for the gateway, is in use: choose another by --gateway-port (0 takes any free one)"
    )


def test_a_port_that_was_just_left_is_free() -> None:
    """A connection in TIME_WAIT must not keep `homeport up` from starting again at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as accepted:
            accepted.shutdown(socket.SHUT_WR)
            client.recv(1)
    check_free([Listener("the API", "127.0.0.1", port, "--api-port")])


def test_one_port_for_two() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    twice = [Listener("the API", "127.0.0.1", port, "--api-port"), Listener("the gateway", "127.0.0.1", port, "--g")]
    with pytest.raises(PortInUseError, match=f"port {port} is meant for the API and for the gateway: give --g another"):
        check_free(twice)


def test_any_free_port_is_free_twice() -> None:
    check_free([Listener("a", "127.0.0.1", 0, "--a"), Listener("b", "127.0.0.1", 0, "--b")])
