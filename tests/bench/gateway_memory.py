"""What the gateway's own code costs for a request, without sockets, event loop or kernel.

    python -m tests.bench.gateway_memory

The shortest of many short repetitions is printed: on a busy machine that holds still where a mean does not.

    small     the same request again and again on one connection
    fresh     the same request, each on a connection of its own
    varied    head and response head differ each time
"""

from __future__ import annotations

import time
from collections.abc import Callable

from api_server.gateway.connection import ClientConnection
from tests.api_server.gateway.memory import Memory, Wire
from tests.api_server.gateway.stage import CALLER
from tests.bench.gateway_micro import SMALL

_REPEATS = 100
_BATCH = 100


class _Sink(Wire):
    """Takes all, and keeps nothing."""

    def write(self, data: object) -> None: ...


def _request(extra: bytes = b"") -> bytes:
    return (
        b"GET /d/home/cam/web/small HTTP/1.1\r\nHost: 127.0.0.1:3722\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip\r\nAuthorization: Bearer %b\r\n%b\r\n" % (CALLER.encode(), extra)
    )


def _copy(data: bytes) -> bytes:
    """Other bytes that are the same: what came from a socket has no hash yet, and is not the object of last time."""
    return bytes(bytearray(data))


def small(memory: Memory, number: int) -> None:
    memory.connection.data_received(_copy(_request()))
    memory.stream.data_received(_copy(SMALL))


def fresh(memory: Memory, number: int) -> None:
    connection = ClientConnection(memory.core, memory.registry)
    connection.connection_made(_Sink())  # type: ignore[arg-type]
    connection.data_received(_copy(_request(b"Connection: close\r\n")))
    memory.stream.data_received(_copy(SMALL))
    connection.connection_lost(None)


def varied(memory: Memory, number: int) -> None:
    memory.connection.data_received(_request(b"X-Number: %08d\r\n" % number))
    memory.stream.data_received(SMALL.replace(b"637c", b"%04x" % (number & 0xFFFF)))


def microseconds(load: Callable[[Memory, int], None]) -> float:
    """Of one request, at best."""
    memory = Memory(wire=_Sink)
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        for number in range(_BATCH):
            load(memory, number)
        best = min(best, (time.perf_counter() - began) / _BATCH)
    return best * 1e6


def main() -> None:
    for load in (small, fresh, varied):
        print(f"{load.__name__:8} {microseconds(load):6.1f} us a request")


if __name__ == "__main__":
    main()
