"""Raw TCP through our own agent: bytes, half-close and reset, either way."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.stage import Workshop
from tests.stack.installation import Installation
from tests.stack.raw_tcp import open_tcp, receive_all, receive_exactly


def test_half_close_crosses_and_what_was_sent_comes_back(installation: Installation, workshop: Workshop) -> None:
    data = os.urandom(50 * 2**20)
    with open_tcp(installation, workshop.name, "tcp") as connection, ThreadPoolExecutor(1) as pool:
        echoed = pool.submit(receive_all, connection)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert echoed.result() == data


def test_a_slow_reader_is_held_back_and_holds_up_nobody_else(installation: Installation, workshop: Workshop) -> None:
    # More than the sum of all buffers on the way there and back: unless its reader reads, this cannot be sent.
    size = 256 * 2**20
    with open_tcp(installation, workshop.name, "tcp") as slow, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(slow.sendall, bytes(size))
        with open_tcp(installation, workshop.name, "tcp") as quick:
            for _ in range(100):
                quick.sendall(b"x" * 1000)
                assert receive_exactly(quick, 1000) == b"x" * 1000
        assert not sending.done()
        left = size
        while left:
            left -= len(slow.recv(min(left, 2**20)))
        sending.result()
