"""What a session keeps, and what it costs in steps, while a peer or a caller pushes against every cap.

Memory is counted by tracemalloc, steps by the calls that the interpreter makes: neither depends on the machine's speed.
"""

from __future__ import annotations

import gc
import itertools
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from common.yamux import Config, MemoryBudget, RemoteProtocolError, Role, Session, StreamOpened, StreamReset
from tests.common.yamux.wire import ACK, FIN, INITIAL, RST, SYN, data, go_away, joined, ping, window

KIB = 1024


def kept(build: Callable[[], object]) -> int:
    """Bytes that are alive because of what `build` returns."""
    build()  # caches of the interpreter are not its cost
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = build()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        assert result is not None
        return after - before
    finally:
        tracemalloc.stop()


def calls(work: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's, that `work` makes."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


class TestIdle:
    def test_a_session(self) -> None:
        config, budget = Config(), MemoryBudget(1 << 30)
        sessions = kept(lambda: [Session(Role.SERVER, config, now=float(n), budget=budget) for n in range(100)])
        assert sessions / 100 < 1.5 * KIB

    def test_a_session_that_has_served(self) -> None:
        # After a thousand requests and a download it is as small as before, but for a few larger tables.
        def used() -> Session:
            server = Session(Role.SERVER, now=0.0)
            for number in range(1000):
                stream_id = server.open_stream(0.0)
                server.send_data(stream_id, bytes(INITIAL if number == 500 else 100))
                server.end_stream(stream_id)
                server.data_to_send(1 << 24)
                server.receive_data(data(stream_id, bytes(100), FIN), 0.0)
                server.events()
            return server

        assert kept(used) < 3 * KIB

    def test_an_open_stream(self) -> None:
        def busy() -> Session:
            server = Session(Role.SERVER, now=0.0)
            server.receive_data(b"".join(data(n, b"x", SYN) for n in range(1, 401, 2)), 0.0)
            server.data_to_send(1 << 24)
            return server

        assert kept(busy) / 200 < 0.75 * KIB


class TestFloods:
    """The peer says the same thing for ever and reads nothing, or a caller's transport is stuck."""

    CONFIG = Config(
        control_frames_per_second=1e9,
        control_frames_burst=1 << 40,
        pings_per_second=1e9,
        pings_burst=1 << 40,
        max_control_queue=16 * KIB,
    )

    @staticmethod
    def ids() -> Iterator[int]:
        return itertools.count(1, 2)

    @pytest.mark.parametrize(
        "flood", ["ping", "open", "open and reset", "open twice", "late", "credit", "go away", "empty"]
    )
    def test_by_the_peer(self, flood: str) -> None:
        ids = self.ids()
        say: dict[str, Callable[[], bytes]] = {
            "ping": lambda: ping(7),
            "open": lambda: window(next(ids), flags=SYN),
            "open and reset": lambda: (lambda n: window(n, flags=SYN) + window(n, flags=RST))(next(ids)),
            "open twice": lambda: window(next(ids), flags=SYN) * 2,
            "late": lambda: data(2, bytes(50)),
            "credit": lambda: window(4, 1),
            "go away": lambda: go_away(0),
            "empty": lambda: data(4, b"") + window(4, 0, ACK),
        }

        def flooded() -> Session:
            server = Session(Role.SERVER, self.CONFIG, now=0.0)
            server.reset_stream(server.open_stream(0.0))
            server.open_stream(0.0)
            server.data_to_send(1 << 24)
            try:
                for _ in range(50):
                    events = server.receive_data(b"".join(say[flood]() for _ in range(100)), 0.0)
                    over = {event.stream_id for event in events if type(event) is StreamReset}
                    for event in events:
                        if type(event) is StreamOpened and event.stream_id not in over:
                            server.send_data(event.stream_id, b"welcome")
            except RemoteProtocolError:
                assert flood in ("ping", "open", "open twice")
            return server

        # The largest: 256 unsent ACKs, each with its stream, or the control queue.
        assert kept(flooded) < 300 * KIB

    def test_by_payload_that_nobody_consumes(self) -> None:
        # A session keeps none of it: views and copies belong to whoever keeps the events.
        def flooded() -> Session:
            server = Session(Role.SERVER, now=0.0)
            for stream_id in range(1, 41, 2):
                server.receive_data(data(stream_id, bytes(INITIAL), SYN), 0.0)
                server.receive_data(data(stream_id, bytes(INITIAL)), 0.0)
            return server

        assert kept(flooded) < 64 * KIB

    def test_by_our_own_caller_while_the_transport_is_stuck(self) -> None:
        def flooded() -> Session:
            client = Session(Role.CLIENT, now=0.0)
            for number in range(5000):
                stream_id = client.open_stream(0.0)
                client.send_data(stream_id, bytes(100))
                if number % 2:
                    client.end_stream(stream_id)
                client.reset_stream(stream_id)
                client.ping(0.0)
            return client

        assert kept(flooded) < 4 * KIB

    def test_a_reset_frees_what_was_queued(self) -> None:
        def dropped() -> Session:
            client = Session(Role.CLIENT, now=0.0)
            stream_id = client.open_stream(0.0)
            client.data_to_send(1)
            for _ in range(100):
                client.send_data(stream_id, bytes(10_000))
            client.reset_stream(stream_id)
            return client

        assert kept(dropped) < 4 * KIB


def test_windows_of_a_process_stay_within_its_budget() -> None:
    process = MemoryBudget(8 << 20)
    config = Config(session_window_budget=3 << 20)
    sessions = [Session(Role.SERVER, config, now=0.0, budget=process) for _ in range(8)]
    for turn in range(40):
        for session in sessions:
            for stream_id in (1, 3, 5):
                window_ = INITIAL if turn == 0 else session._streams[stream_id].receive_window.size
                n = window_ // 2
                session.receive_data(data(stream_id, bytes(n), SYN if turn == 0 else 0), turn * 0.001)
                session.consumed(stream_id, n, turn * 0.001)
            session.data_to_send(1 << 24)
            assert session.statistics().window_reserved <= 3 << 20
        assert process.used <= 8 << 20
    assert process.used > 4 << 20, "and they make use of it"
    held = [session.statistics().window_reserved for session in sessions]
    assert min(held) > 0, "each has something"
    for session in sessions:
        session.close()
    assert process.used == 0


class TestSteps:
    """Twice the work takes at most about twice the steps."""

    @staticmethod
    def grows_in_line(work: Callable[[int], Callable[[], object]], n: int) -> None:
        once, twice = calls(work(n)), calls(work(2 * n))
        assert once > n / 4, "there was something to count"
        assert twice < 2.2 * once + 100

    def test_bytes_one_by_one(self) -> None:
        def work(n: int) -> Callable[[], object]:
            server = Session(Role.SERVER, now=0.0)
            stream = data(1, bytes(n), SYN)
            return lambda: [server.receive_data(stream[at : at + 1], 0.0) for at in range(len(stream))]

        self.grows_in_line(work, 1000)

    def test_small_frames(self) -> None:
        def work(n: int) -> Callable[[], object]:
            server = Session(Role.SERVER, now=0.0)
            stream = window(1, flags=SYN) + data(1, b"x") * n
            return lambda: server.receive_data(stream, 0.0)

        self.grows_in_line(work, 2000)

    def test_many_writes_on_one_stream(self) -> None:
        def work(n: int) -> Callable[[], object]:
            client = Session(Role.CLIENT, now=0.0)
            stream_id = client.open_stream(0.0)

            def writes() -> None:
                for _ in range(n):
                    client.send_data(stream_id, b"x" * 10)
                while client.data_to_send(100):
                    pass

            return writes

        self.grows_in_line(work, 2000)

    def test_one_large_write_in_small_frames(self) -> None:
        def work(n: int) -> Callable[[], object]:
            client = Session(Role.CLIENT, Config(max_frame=10, busy_frame=10), now=0.0)
            client.send_data(client.open_stream(0.0), bytes(10 * n))

            def taking() -> None:
                while client.data_to_send(1):
                    pass

            return taking

        self.grows_in_line(work, 2000)

    @pytest.mark.parametrize("size", [100, 40_000])
    def test_many_streams(self, size: int) -> None:
        def work(n: int) -> Callable[[], object]:
            client = Session(Role.CLIENT, Config(max_streams=10_000, max_pending_opens=10_000), now=0.0)

            def streams() -> None:
                for _ in range(n):
                    client.send_data(client.open_stream(0.0), bytes(size))
                while client.data_to_send(1000):
                    pass

            return streams

        self.grows_in_line(work, 500)

    def test_nothing(self) -> None:
        client = Session(Role.CLIENT, Config(max_streams=10_000, max_pending_opens=10_000), now=0.0)
        for _ in range(5000):
            client.open_stream(0.0)
        joined(client.data_to_send(1 << 24))
        assert calls(lambda: (client.has_output, client.data_to_send(65_536), client.events(), client.tick(1.0))) < 30
