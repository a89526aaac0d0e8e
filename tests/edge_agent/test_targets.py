"""Connecting to what listens, and the coded reason for what does not."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from common.loopback import CONGESTION_CONTROL
from edge_agent.errors import (
    StreamLimitError,
    TargetError,
    TargetRefusedError,
    TargetTimeoutError,
    TargetUnreachableError,
)
from edge_agent.targets import (
    QUEUE_AT_HOME,
    NamedTarget,
    Target,
    connect_within,
    meets_itself,
    tcp_target,
    unix_target,
)
from tests.edge_agent.services import echo, listening_on, refusing_port, serve

pytestmark = pytest.mark.anyio


async def check_echo(target: Target) -> None:
    sock = await connect_within(target, 5)
    with sock:
        assert not sock.getblocking()
        sock.send(b"hello")
        await trio.lowlevel.wait_readable(sock)
        assert sock.recv(10) == b"hello"


async def test_an_address_is_connected_to() -> None:
    async with serve(echo) as port:
        await check_echo(tcp_target("127.0.0.1", port))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_little_is_queued_of_a_service_on_this_machine(host: str) -> None:
    async with serve(echo, host="::1" if host == "::1" else "127.0.0.1") as port:
        sock = await connect_within(tcp_target(host, port), 5)
        with sock:
            # socket(7): the kernel doubles the value that is set. By itself it would grow up to tcp_rmem[2].
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * QUEUE_AT_HOME
            congestion_control = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
            assert congestion_control.rstrip(b"\0") == CONGESTION_CONTROL


async def test_a_unix_socket_is_connected_to(tmp_path: Path) -> None:
    async with serve(echo, path=tmp_path / "echo.sock"):
        await check_echo(unix_target(str(tmp_path / "echo.sock")))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_localhost_finds_a_server_on_either_family(host: str) -> None:
    async with serve(echo, host=host) as port:
        target = tcp_target("localhost", port)
        for _ in range(3):
            await check_echo(target)


async def test_localhost_tries_first_what_answered_last() -> None:
    async with serve(echo, host="::1") as port:
        target = tcp_target("localhost", port)
        await check_echo(target)
        sock = await connect_within(target, 5)
        with sock:
            assert sock.family == socket.AF_INET6
    async with serve(echo, host="127.0.0.1") as port:
        sock = await connect_within(tcp_target("localhost", port), 5)
        with sock:
            assert sock.family == socket.AF_INET


class Resolver(trio.abc.HostnameResolver):
    """Knows two names."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def getaddrinfo(  # type: ignore[override]
        self, host: bytes | None, port: object, *_arguments: object, **_options: object
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host == b"twice.test":
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", refusing_port())),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self._port)),
            ]
        if host == b"down.test":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", refusing_port()))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_name_is_resolved_and_its_addresses_are_tried() -> None:
    async with serve(echo) as port:
        before = trio.socket.set_custom_hostname_resolver(Resolver(port))
        try:
            await check_echo(NamedTarget("twice.test", port))
            with pytest.raises(TargetRefusedError, match=r"nothing listens on down\.test"):
                await connect_within(NamedTarget("down.test", port), 5)
            with pytest.raises(TargetUnreachableError, match="Name or service not known") as caught:
                await connect_within(NamedTarget("nowhere.test", port), 5)
            assert caught.value.code == "unreachable"
        finally:
            trio.socket.set_custom_hostname_resolver(before)


async def test_nobody_listens(tmp_path: Path) -> None:
    for target in (
        tcp_target("127.0.0.1", refusing_port()),
        tcp_target("localhost", refusing_port()),
        unix_target(str(tmp_path / "missing.sock")),
    ):
        with pytest.raises(TargetRefusedError, match=f"nothing listens on {target}") as caught:
            await connect_within(target, 5)
        assert caught.value.code == "connection_refused"


async def test_a_dead_unix_socket_is_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    async with listening_on(path, 1):
        pass
    with pytest.raises(TargetRefusedError):
        await connect_within(unix_target(str(path)), 5)


async def test_a_file_that_is_no_socket_is_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(TargetRefusedError):
        await connect_within(unix_target(str(path)), 5)


async def test_a_full_backlog_times_out_and_a_place_in_it_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    target = unix_target(str(path))
    async with listening_on(path, 0) as listener:
        with await connect_within(target, 5):
            with pytest.raises(TargetTimeoutError, match="within 5 s") as caught:
                await connect_within(target, 5)
            assert caught.value.code == "timeout"

            async def accept() -> None:
                await trio.sleep(1)
                listener.accept()[0].close()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept)
                (await connect_within(target, 5)).close()


async def test_a_tcp_connect_without_an_answer_times_out() -> None:
    # A listener whose queue is full drops the SYN, and the kernel only retries after a second.
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        # listen(0) has room for one; another may wait half-open (tcp_abort_on_overflow, tcp(7)).
        with suppress(TargetTimeoutError), await connect_within(tcp_target(*listener.getsockname()), 3):
            pass
        with pytest.raises(TargetTimeoutError, match="within 3 s"):
            await connect_within(tcp_target(*listener.getsockname()), 3)


class Failing:
    """Fails as told."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def connect(self) -> socket.socket:
        raise OSError(self._number, os.strerror(self._number))

    def __str__(self) -> str:
        return "x:1"


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ECONNREFUSED, TargetRefusedError),
        (errno.EMFILE, StreamLimitError),
        (errno.EADDRNOTAVAIL, StreamLimitError),
        (errno.EHOSTUNREACH, TargetUnreachableError),
        (errno.ENETUNREACH, TargetUnreachableError),
        (errno.EACCES, TargetUnreachableError),
        (errno.ETIMEDOUT, TargetTimeoutError),
    ],
)
async def test_each_failure_of_the_system_has_its_code(number: int, error: type[TargetError]) -> None:
    with pytest.raises(error, match=os.strerror(number)):
        await connect_within(Failing(number), 5)


async def test_a_connection_to_itself_is_known() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        sock.send(b"hello")
        assert sock.recv(10) == b"hello"
        assert meets_itself(sock)
    async with serve(echo) as port:
        with await connect_within(tcp_target("127.0.0.1", port), 5) as sock:
            assert not meets_itself(sock)
