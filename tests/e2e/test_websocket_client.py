"""The `websockets` client through the gateway, its own echo server as the device's service."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.stage import Workshop
from tests.stack.installation import Installation


@pytest.fixture
def url(installation: Installation, workshop: Workshop) -> str:
    """Of the echo service."""
    return installation.url(workshop.name, "echo").replace("http", "ws", 1)


@pytest.fixture
def connection(installation: Installation, url: str) -> Iterator[ClientConnection]:
    """An open WebSocket to the echo service."""
    with connect(url, additional_headers=installation.authorization, max_size=None, proxy=None) as opened:
        yield opened


def test_messages_come_back_as_they_were(connection: ClientConnection) -> None:
    for message in ("text", "", "\N{SNOWMAN}" * 1000, b"", os.urandom(10), os.urandom(70_000)):
        connection.send(message)
        assert connection.recv(timeout=30) == message


def test_a_message_of_20_mib_comes_back(connection: ClientConnection) -> None:
    message = os.urandom(20 * 2**20)
    connection.send(message)
    assert connection.recv(timeout=60) == message


def test_a_message_sent_in_fragments_comes_back_whole(connection: ClientConnection) -> None:
    parts = [os.urandom(1000) for _ in range(100)]
    connection.send(iter(parts))
    assert connection.recv(timeout=30) == b"".join(parts)


def test_a_ping_is_answered_by_the_service(connection: ClientConnection) -> None:
    assert connection.ping(os.urandom(20)).wait(30)


def test_compression_is_agreed_between_client_and_service(connection: ClientConnection) -> None:
    assert [extension.name for extension in connection.protocol.extensions] == ["permessage-deflate"]
    connection.send("a" * 1_000_000)
    assert connection.recv(timeout=30) == "a" * 1_000_000


def test_the_closing_handshake_reaches_the_service_and_back(connection: ClientConnection) -> None:
    connection.close(4321, "enough")
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=30)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "enough")


def test_without_a_token_there_is_no_upgrade(url: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(url, proxy=None)
    assert caught.value.response.status_code == 401
