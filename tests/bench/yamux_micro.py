"""What yamux costs without any network: microseconds for a small frame, GiB/s for bulk, bytes for an idle session.

Run it as `python -m tests.bench.yamux_micro`; each figure is CPU time, the best of several runs: only the code counts.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable

from common.yamux import Config, DataReceived, MemoryBudget, Role, Session

_RUNS = 7
_SMALL = b"x" * 200
_BULK = b"x" * 65536
_GROWN = Config(initial_window=8 << 20, session_window_budget=1 << 30)
"""Windows as they are after a moment of bulk."""


def _pair(config: Config) -> tuple[Session, Session]:
    return Session(Role.CLIENT, config, now=0.0), Session(Role.SERVER, config, now=0.0)


def _exchange(one: Session, other: Session) -> None:
    """Let both sides take all that the other has to say."""
    while one.has_output or other.has_output:
        for sender, receiver in ((one, other), (other, one)):
            data = b"".join(sender.data_to_send(1 << 20))
            for event in receiver.receive_data(data, 0.0):
                if type(event) is DataReceived:
                    receiver.consumed(event.stream_id, len(event.data), 0.0)


def _best(measure: Callable[[], float]) -> float:
    gc.collect()
    gc.disable()
    try:
        return min(measure() for _ in range(_RUNS))
    finally:
        gc.enable()


def small_frames(streams: int, frames: int = 16_000) -> tuple[float, float, float]:
    """Seconds to encode, decode and credit one frame of 200 bytes, with `streams` busy at once."""
    spent: list[tuple[float, float, float]] = []

    def once() -> float:
        client, server = _pair(_GROWN)
        ids = [client.open_stream(0.0) for _ in range(streams)]
        _exchange(client, server)
        start = time.process_time()
        out = []
        for _ in range(frames // streams):
            for stream_id in ids:
                client.send_data(stream_id, _SMALL)
            out.append(client.data_to_send(65536))
        encoded = time.process_time() - start
        arriving = [b"".join(buffers) for buffers in out]
        start = time.process_time()
        events = [server.receive_data(data, 0.0) for data in arriving]
        decoded = time.process_time() - start
        start = time.process_time()
        for received in events:
            for event in received:
                server.consumed(event.stream_id, 200, 0.0)  # type: ignore[union-attr]
        credited = time.process_time() - start
        spent.append((encoded / frames, decoded / frames, credited / frames))
        return 0.0

    _best(once)
    encode, decode, credit = (min(figures) for figures in zip(*spent, strict=True))
    return encode, decode, credit


def bulk(pieces: int = 4_000, cut: int = 131072) -> float:
    """Seconds a GiB, one stream, client to server, in reads of `cut` bytes; joining what is sent is not counted."""

    def once() -> float:
        client, server = _pair(_GROWN)
        stream_id = client.open_stream(0.0)
        _exchange(client, server)
        spent = 0.0
        for _ in range(pieces // 32):
            start = time.process_time()
            out = []
            for _ in range(32):
                client.send_data(stream_id, _BULK)
            while buffers := client.data_to_send(cut):
                out.append(buffers)
            spent += time.process_time() - start
            arriving = [b"".join(buffers) for buffers in out]
            start = time.process_time()
            for data in arriving:
                for event in server.receive_data(data, 0.0):
                    server.consumed(event.stream_id, len(event.data), 0.0)  # type: ignore[union-attr]
                for back in server.data_to_send(65536):
                    client.receive_data(back, 0.0)
            spent += time.process_time() - start
        return spent / (pieces * len(_BULK)) * (1 << 30)

    return _best(once)


def short_streams(count: int = 2_000) -> float:
    """Seconds for the life of a stream: open, 200 bytes each way, both ends, on both sides."""

    def once() -> float:
        client, server = _pair(Config())
        start = time.process_time()
        for _ in range(count):
            stream_id = client.open_stream(0.0)
            client.send_data(stream_id, _SMALL)
            client.end_stream(stream_id)
            for event in server.receive_data(b"".join(client.data_to_send(65536)), 0.0):
                if type(event) is DataReceived:
                    server.consumed(stream_id, len(event.data), 0.0)
            server.send_data(stream_id, _SMALL)
            server.end_stream(stream_id)
            for event in client.receive_data(b"".join(server.data_to_send(65536)), 0.0):
                if type(event) is DataReceived:
                    client.consumed(stream_id, len(event.data), 0.0)
            server.events()
        return (time.process_time() - start) / count

    return _best(once)


def memory(count: int = 500) -> tuple[float, float]:
    """Bytes of an idle session, and of one more stream that is open in it."""
    config, budget = Config(), MemoryBudget(1 << 30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sessions = [Session(Role.SERVER, config, now=float(n), budget=budget) for n in range(count)]
        idle = tracemalloc.get_traced_memory()[0]
        for session in sessions:
            for _ in range(10):
                session.open_stream(1.0)
            session.data_to_send(65536)
        busy = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return (idle - before) / count, (busy - idle) / count / 10


def main() -> None:
    """Print every figure."""
    print(f"Python {sys.version.split()[0]}")
    for streams in (1, 32):
        encode, decode, credit = (seconds * 1e6 for seconds in small_frames(streams))
        print(
            f"200 B frames, {streams:2} a flush: encode {encode:.2f} us, decode {decode:.2f} us, credit {credit:.2f} us"
        )
    seconds = bulk()
    print(f"64 KiB frames through a pair: {seconds * 1000:.0f} ms a GiB, {1 / seconds:.1f} GiB/s")
    print(f"a stream's life, both sides: {short_streams() * 1e6:.1f} us")
    idle, stream = memory()
    print(f"memory: {idle:.0f} B an idle session, {stream:.0f} B an open stream")


if __name__ == "__main__":
    main()
