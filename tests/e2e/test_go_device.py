"""A device that shares no code with Homeport: hashicorp/yamux over gorilla/websocket as subprotocol `yamux`."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.stage import GoDevice
from tests.stack.installation import Installation
from tests.stack.raw_tcp import open_tcp, receive_all

LARGE = 100 * 2**20


@pytest.fixture
def client(installation: Installation, go_http: GoDevice) -> Iterator[httpx.Client]:
    """Of the device's HTTP service."""
    base = installation.url(go_http.name, go_http.service, "")
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(
        base_url=base, headers=installation.authorization, trust_env=False, timeout=60, limits=limits
    ) as opened:
        yield opened


def test_it_is_listed_as_what_it_is(installation: Installation, go_http: GoDevice) -> None:
    with installation.client() as api:
        sessions = api.get("/api/sessions", params={"team": installation.team}).json()["items"]
    (session,) = [item for item in sessions if item["device_name"] == go_http.name]
    assert session["subprotocol"] == "yamux"
    assert session["agent_version"] is None


def test_500_requests_are_answered(client: httpx.Client) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.get("/"), range(500)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "hello from the Go device\n")}


def test_100_mib_come_from_it_unharmed(client: httpx.Client) -> None:
    digest = hashlib.sha256()
    with client.stream("GET", f"/bytes/{LARGE}") as answer:
        for part in answer.iter_raw():
            digest.update(part)
    assert digest.hexdigest() == client.get(f"/digest/{LARGE}").text.strip()


def test_100_mib_go_to_it_unharmed(client: httpx.Client) -> None:
    block = os.urandom(2**20)
    answer = client.post("/sha256", content=(block for _ in range(LARGE // len(block))))
    digest = hashlib.sha256()
    for _ in range(LARGE // len(block)):
        digest.update(block)
    assert answer.text.strip() == digest.hexdigest()


def test_64_streams_are_open_at_once(client: httpx.Client) -> None:
    with ThreadPoolExecutor(64) as pool:
        waiting = [pool.submit(client.get, "/gate") for _ in range(64)]
        assert client.get("/open", params={"waiting": 64}).text == "64\n"
        assert [future.result().text for future in waiting] == ["through\n"] * 64


def test_64_streams_carry_data_at_once_and_none_is_mixed_with_another(client: httpx.Client) -> None:
    started = threading.Barrier(64)
    sizes = [100_000 + 1000 * number for number in range(64)]

    def fetch(size: int) -> str:
        started.wait(60)
        return hashlib.sha256(client.get(f"/bytes/{size}").content).hexdigest()

    with ThreadPoolExecutor(64) as pool:
        digests = list(pool.map(fetch, sizes))
    assert digests == [client.get(f"/digest/{size}").text.strip() for size in sizes]


def test_a_reset_by_the_device_before_the_answer_is_502_with_its_code(client: httpx.Client) -> None:
    answer = client.get("/reset")
    assert (answer.status_code, answer.json()["code"]) == (502, "stream_reset")
    assert client.get("/").status_code == 200


def test_a_client_that_goes_away_resets_the_stream_at_the_device(client: httpx.Client) -> None:
    before = int(client.get("/resets").text)
    with client.stream("GET", f"/bytes/{2**40}") as answer:
        next(answer.iter_raw())
    assert int(client.get("/resets", params={"at-least": before + 1}).text) == before + 1


def test_half_close_reaches_the_device_and_its_answer_still_comes(installation: Installation, go_raw: GoDevice) -> None:
    data = os.urandom(5 * 2**20)
    with open_tcp(installation, go_raw.name, go_raw.service) as connection:
        connection.sendall(b"digest\n" + data)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).decode() == hashlib.sha256(data).hexdigest()


def test_bytes_come_back_while_more_are_sent_and_after_the_half_close(
    installation: Installation, go_raw: GoDevice
) -> None:
    data = os.urandom(20 * 2**20)
    with open_tcp(installation, go_raw.name, go_raw.service) as connection, ThreadPoolExecutor(1) as pool:
        connection.sendall(b"echo\n")
        echoed = pool.submit(receive_all, connection)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert echoed.result() == data


def test_a_reset_by_the_device_is_a_reset_for_the_client(installation: Installation, go_raw: GoDevice) -> None:
    with open_tcp(installation, go_raw.name, go_raw.service) as connection:
        connection.sendall(b"reset\n")
        with pytest.raises(ConnectionResetError):
            receive_all(connection)


def test_after_resets_either_way_the_session_still_works(installation: Installation, go_raw: GoDevice) -> None:
    with open_tcp(installation, go_raw.name, go_raw.service) as connection:
        connection.sendall(b"echo\nhalf a")
        assert connection.recv(6) == b"half a"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with open_tcp(installation, go_raw.name, go_raw.service) as connection:
        connection.sendall(b"echo\nwhole")
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b"whole"
