"""Each thing that the proxy does, as the two ends of a connection see it."""

from __future__ import annotations

import hashlib
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.chaos import ChaosProxy, chaos_process
from tests.faults.script import REPLAY
from tests.stack.raw_tcp import receive_all, receive_exactly

BOUND = 30.0
"""Seconds after which a test that hangs ends."""
SILENCE = 0.2
"""Seconds for which nothing must come, where nothing is to come."""

Ends = tuple[socket.socket, socket.socket]


@contextmanager
def ends_of(proxy: ChaosProxy, listener: socket.socket) -> Iterator[Ends]:
    """A connection through the proxy: who dialled, and who was dialled."""
    with socket.create_connection((proxy.host, proxy.port), timeout=BOUND) as near:
        far, _ = listener.accept()
        with far:
            far.settimeout(BOUND)
            yield near, far


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(BOUND)
        yield listening


@contextmanager
def connected(
    listener: socket.socket, script: str, **options: Any
) -> Iterator[tuple[ChaosProxy, socket.socket, socket.socket]]:
    with ChaosProxy(listener.getsockname(), script, **options) as proxy, ends_of(proxy, listener) as (near, far):
        yield proxy, near, far


def is_silent(end: socket.socket) -> bool:
    """Whether nothing comes: no byte, no end, no reset."""
    with selectors.DefaultSelector() as selector:
        selector.register(end, selectors.EVENT_READ)
        return not selector.select(SILENCE)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_reset(end: socket.socket) -> bool:
    try:
        return end.recv(1) is None
    except ConnectionResetError:
        return True


def test_bytes_and_ends_pass_unharmed(listener: socket.socket) -> None:
    with connected(listener, "") as (proxy, near, far):
        near.sendall(b"there")
        near.shutdown(socket.SHUT_WR)
        assert receive_all(far) == b"there"
        far.sendall(b"and back, after the end of the other half")
        far.close()
        assert receive_all(near) == b"and back, after the end of the other half"
        until(lambda: not proxy.connections()[0].open)
        assert (proxy.connections()[0].up, proxy.connections()[0].down) == (5, 41)


def test_a_reset_of_one_end_reaches_the_other(listener: socket.socket) -> None:
    with connected(listener, "") as (_, near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        assert is_reset(far)


def test_nobody_listens_behind_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    with ChaosProxy(target) as proxy:
        try:
            near = socket.create_connection((proxy.host, proxy.port), timeout=BOUND)
        except ConnectionResetError:
            return  # the proxy was as quick as that
        with near:
            assert is_reset(near)


def test_delay_is_of_its_direction(listener: socket.socket) -> None:
    with connected(listener, "up delay 300ms") as (_, near, far):
        far.sendall(b"x")
        receive_exactly(near, 1)
        began = time.monotonic()
        near.sendall(b"late")
        assert is_silent(far)
        assert receive_exactly(far, 4) == b"late"
        assert time.monotonic() - began >= 0.29


def test_delay_holds_back_the_end_too(listener: socket.socket) -> None:
    with connected(listener, "up delay 300ms") as (_, near, far):
        near.shutdown(socket.SHUT_WR)
        assert is_silent(far)
        assert receive_all(far) == b""


def test_delay_is_no_limit_to_bandwidth(listener: socket.socket) -> None:
    """64 MiB behind 2 s of delay: all of it is under way before the first byte arrives."""
    content = random.Random(1).randbytes(64 << 20)
    with connected(listener, "up delay 2s") as (proxy, near, far), ThreadPoolExecutor(1) as pool:
        sending = pool.submit(near.sendall, content)
        sending.result(BOUND)
        assert proxy.connections()[0].up < len(content)
        assert hashlib.sha256(receive_exactly(far, len(content))).digest() == hashlib.sha256(content).digest()


def test_a_line_that_is_full_holds_the_sender(listener: socket.socket) -> None:
    with connected(listener, "up delay 30s", line=100_000, socket_buffer=16_384) as (proxy, near, _far):
        near.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            near.sendall(bytes(64 << 20))
        assert not proxy.connections()[0].up


def test_jitter_keeps_the_order(listener: socket.socket) -> None:
    content = random.Random(2).randbytes(1 << 20)
    with connected(listener, "up delay 1ms jitter 30ms") as (_, near, far), ThreadPoolExecutor(1) as pool:
        pool.submit(near.sendall, content)
        assert receive_exactly(far, len(content)) == content


def test_bandwidth(listener: socket.socket) -> None:
    with connected(listener, "down bandwidth 1MiB") as (_, near, far), ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        pool.submit(far.sendall, bytes(512 * 1024))
        receive_exactly(near, 512 * 1024)
        assert time.monotonic() - began >= 0.45


def test_split_writes_are_what_the_seed_says(listener: socket.socket) -> None:
    """One byte a second passes, so that what arrives at once is one write."""
    with connected(listener, "up split 1-3; up bandwidth 100", seed=5) as (_, near, far):
        near.sendall(b"homeport")
        pieces = []
        while sum(map(len, pieces)) < 8:
            pieces.append(far.recv(100))
        assert b"".join(pieces) == b"homeport"
        assert max(map(len, pieces)) <= 3
        assert len(pieces) >= 3


def test_splitting_can_begin_in_the_middle_of_a_write(listener: socket.socket) -> None:
    data = random.Random(5).randbytes(8 * 1024 * 1024)
    with connected(listener, "", socket_buffer=4096) as (proxy, near, far), ThreadPoolExecutor(1) as pool:
        sending = pool.submit(near.sendall, data)
        until(lambda: proxy.connections()[0].up > 0)  # the far end reads nothing, so that the write goes no further
        proxy.apply("up split 1-1400")
        assert receive_exactly(far, len(data)) == data
        sending.result()


def test_merged_writes(listener: socket.socket) -> None:
    with connected(listener, "up merge 10 within 20s") as (_, near, far):
        near.sendall(b"01234")
        assert is_silent(far)
        near.sendall(b"56789")
        assert far.recv(100) == b"0123456789"


def test_merged_writes_wait_no_longer_than_that(listener: socket.socket) -> None:
    with connected(listener, "up merge 10 within 50ms") as (_, near, far):
        near.sendall(b"01234")
        assert far.recv(100) == b"01234"


def test_merging_ends_with_the_connection(listener: socket.socket) -> None:
    with connected(listener, "up merge 10 within 20s") as (_, near, far):
        near.sendall(b"01234")
        near.shutdown(socket.SHUT_WR)
        assert receive_all(far) == b"01234"


def test_a_stall_is_of_its_direction_and_keeps_the_sockets(listener: socket.socket) -> None:
    with connected(listener, "up stall at 5") as (proxy, near, far):
        near.sendall(b"01234567")
        assert receive_exactly(far, 5) == b"01234"
        assert is_silent(far)
        far.sendall(b"the other way")
        assert receive_exactly(near, 13) == b"the other way"
        proxy.apply("up resume")
        assert receive_exactly(far, 3) == b"567"


def test_a_stall_holds_the_sender_and_hides_its_end(listener: socket.socket) -> None:
    with connected(listener, "up stall", socket_buffer=16_384) as (proxy, near, far):
        near.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            near.sendall(bytes(64 << 20))
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        assert is_silent(far)
        far.sendall(b"to nobody")
        assert is_silent(far)
        proxy.apply("up resume")
        with pytest.raises(ConnectionResetError):
            receive_all(far)


def test_reset_after_a_number_of_bytes(listener: socket.socket) -> None:
    with connected(listener, "down reset at 5") as (proxy, near, far):
        far.sendall(b"01234567")
        with pytest.raises(ConnectionResetError):
            receive_exactly(near, 8)
        assert is_reset(far)
        assert proxy.connections()[0].down == 5
        assert not proxy.connections()[0].open


def test_reset_after_a_time(listener: socket.socket) -> None:
    with connected(listener, "both reset after 0.05s") as (_, near, far):
        assert is_reset(near)
        assert is_reset(far)


def test_half_close_throws_away_what_follows(listener: socket.socket) -> None:
    with connected(listener, "up half-close at 5") as (_, near, far):
        near.sendall(b"01234567")
        assert receive_all(far) == b"01234"
        far.sendall(b"the other way")
        assert receive_exactly(near, 13) == b"the other way"


def test_one_byte_is_corrupted(listener: socket.socket) -> None:
    content = random.Random(3).randbytes(300_000)
    with connected(listener, "down corrupt 0x81 at 200000") as (_, near, far), ThreadPoolExecutor(1) as pool:
        pool.submit(far.sendall, content)
        received = receive_exactly(near, len(content))
        assert [place for place in range(len(content)) if received[place] != content[place]] == [200_000]
        assert received[200_000] == content[200_000] ^ 0x81


def test_steps_by_a_call(listener: socket.socket) -> None:
    with connected(listener, "") as (proxy, near, far):
        near.sendall(b"abc")
        receive_exactly(far, 3)
        proxy.apply("up corrupt 0x01 at 1; down delay 300ms")
        near.sendall(b"abc")
        assert receive_exactly(far, 3) == b"acc"
        far.sendall(b"x")
        assert is_silent(near)
        assert receive_exactly(near, 1) == b"x"
        proxy.apply("both reset")
        assert is_reset(near)
        assert is_reset(far)


def test_a_step_may_be_for_one_connection(listener: socket.socket) -> None:
    with (
        connected(listener, "#2 up corrupt 0xff at 0") as (proxy, first, first_far),
        ends_of(proxy, listener) as (second, second_far),
    ):
        first.sendall(b"a")
        second.sendall(b"a")
        assert receive_exactly(first_far, 1) == b"a"
        assert receive_exactly(second_far, 1) == bytes((ord("a") ^ 0xFF,))


def test_a_run_repeats_itself(listener: socket.socket) -> None:
    """Places and masks that were drawn are in the journal, and the same for the same seed only."""

    def run(seed: int) -> list[str]:
        with connected(listener, "up corrupt at 0-5000; up corrupt at 0-5000", seed=seed) as (proxy, near, far):
            near.sendall(bytes(6000))
            receive_exactly(far, 6000)
            return [f"{entry.offset} {entry.what}" for entry in proxy.journal()]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_what_is_printed_replays(listener: socket.socket) -> None:
    with connected(listener, "up corrupt at 0-50", seed=9) as (proxy, near, far):
        near.sendall(bytes(51))
        first = receive_exactly(far, 51)
        said = str(proxy)
    assert "corrupt" in said
    environ = {REPLAY: said.partition(f'{REPLAY}="')[2].partition('"')[0]}
    with connected(listener, "up stall", environ=environ) as (_, near, far):
        near.sendall(bytes(51))
        assert receive_exactly(far, 51) == first


def test_closing_it_ends_connections_and_its_thread(listener: socket.socket) -> None:
    threads = threading.active_count()
    with ChaosProxy(listener.getsockname(), "both stall") as proxy, ends_of(proxy, listener) as (near, far):
        near.sendall(b"x")
        proxy.close()
        assert receive_all(far) == b""
        assert threading.active_count() == threads


def test_as_a_process(listener: socket.socket, tmp_path: Path) -> None:
    target = "{}:{}".format(*listener.getsockname())
    with chaos_process(tmp_path, target, "up corrupt 0x20 at 0") as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=BOUND) as near:
            far, _ = listener.accept()
            with far:
                near.sendall(b"aa")
                assert receive_exactly(far, 2) == b"Aa"
