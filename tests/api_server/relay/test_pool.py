"""The pool of idle streams: which one it hands out, what takes one out, how one is ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.relay import RelayStream, StreamPool
from common.ids import ServiceName, SessionId
from tests.api_server.gateway.memory import Wire
from tests.contract.sinks import RecordingSink

ONE = SessionId("ses_" + "1" * 32)
TWO = SessionId("ses_" + "2" * 32)
WEB = ServiceName("web")
SSH = ServiceName("ssh")


class Answered:
    """What a stream's opener would wait for."""

    def done(self) -> bool:
        return False

    def set_result(self, result: None) -> None: ...


def opened(session: SessionId = ONE, service: ServiceName = WEB) -> tuple[RelayStream, Wire]:
    """An open stream and its socket."""
    stream = RelayStream(session, service, request=b"x", answered=Answered())  # type: ignore[arg-type]
    wire = Wire()
    stream.connection_made(wire)  # type: ignore[arg-type]
    stream.data_received(b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: homeport-stream\r\n\r\n")
    stream.attach(RecordingSink())
    return stream, wire


def test_the_newest_is_handed_out_first() -> None:
    pool = StreamPool()
    streams = [opened()[0] for _ in range(3)]
    for number, stream in enumerate(streams):
        assert pool.put(stream, float(number))
    assert [pool.take(ONE, WEB, 3.0) for _ in range(4)] == [*reversed(streams), None]
    assert [stream.used for stream in streams] == [1, 1, 1]
    assert pool.statistics().reused == 3


def test_a_stream_goes_to_its_own_session_and_service_only() -> None:
    pool = StreamPool()
    stream, _ = opened(ONE, WEB)
    pool.put(stream, 0.0)
    assert pool.take(TWO, WEB, 0.0) is None
    assert pool.take(ONE, SSH, 0.0) is None
    assert pool.take(ONE, WEB, 0.0) is stream


def test_one_that_was_idle_for_too_long_for_the_asker_stays() -> None:
    pool = StreamPool()
    stream, _ = opened()
    pool.put(stream, 10.0)
    assert pool.take(ONE, WEB, 11.1, max_idle=1.0) is None
    assert len(pool) == 1
    assert pool.take(ONE, WEB, 11.0, max_idle=1.0) is stream


def test_what_the_other_end_does_takes_a_stream_out() -> None:
    for happen in (
        lambda stream: stream.data_received(b"unasked"),
        lambda stream: stream.eof_received(),
        lambda stream: stream.connection_lost(ConnectionResetError()),
    ):
        pool = StreamPool()
        stream, _ = opened()
        pool.put(stream, 0.0)
        happen(stream)
        assert len(pool) == 0
        assert pool.take(ONE, WEB, 0.0) is None
        assert pool.statistics().lost == 1


def test_one_that_speaks_is_reset_and_one_that_ends_is_ended() -> None:
    pool = StreamPool()
    speaks, speaking = opened()
    ends, ending = opened()
    pool.put(speaks, 0.0)
    pool.put(ends, 0.0)
    speaks.data_received(b"unasked")
    assert speaking.aborted
    ends.eof_received()
    assert ending.ended
    assert ending.closed
    assert not ending.aborted


@pytest.mark.parametrize("spoil", ["write_eof", "pause_reading", "reset", "eof_received", "pause_writing"])
def test_one_that_cannot_be_used_again_is_not_kept(spoil: str) -> None:
    pool = StreamPool()
    stream, wire = opened()
    getattr(stream, spoil)()
    assert not pool.put(stream, 0.0)
    assert len(pool) == 0
    assert wire.aborted


def test_a_bound_for_one_service_ends_its_oldest() -> None:
    pool = StreamPool(max_idle_per_service=2)
    pairs = [opened() for _ in range(3)]
    other, _ = opened(TWO)
    pool.put(other, 0.0)
    for stream, _ in pairs:
        pool.put(stream, 0.0)
    assert len(pool) == 3
    assert [wire.ended for _, wire in pairs] == [True, False, False]
    assert pool.take(TWO, WEB, 0.0) is other


def test_a_bound_for_all_ends_the_oldest_of_all() -> None:
    pool = StreamPool(max_idle=2)
    pairs = [opened(session) for session in (ONE, TWO, TWO)]
    for stream, _ in pairs:
        pool.put(stream, 0.0)
    assert [wire.ended for _, wire in pairs] == [True, False, False]
    assert pool.take(ONE, WEB, 0.0) is None


@pytest.mark.parametrize("bounds", [{"max_idle": 0}, {"max_idle_per_service": 0}])
def test_a_pool_that_keeps_none(bounds: dict[str, int]) -> None:
    pool = StreamPool(**bounds)
    stream, wire = opened()
    assert not pool.put(stream, 0.0)
    assert wire.aborted


def test_idle_streams_expire_oldest_first_and_are_ended_in_good_order() -> None:
    pool = StreamPool(idle_timeout=10)
    pairs = [opened() for _ in range(3)]
    for number, (stream, _) in enumerate(pairs):
        pool.put(stream, float(number))
    assert pool.expire(9.9) == 0
    assert pool.expire(11.0) == 2
    assert [(wire.ended, wire.closed) for _, wire in pairs] == [(True, False), (True, False), (False, False)]
    pairs[0][0].eof_received()
    assert pairs[0][1].closed
    assert not pairs[0][1].aborted


def test_one_that_does_not_answer_its_end_is_reset() -> None:
    pool = StreamPool(idle_timeout=10)
    stream, wire = opened()
    pool.put(stream, 0.0)
    pool.expire(10.0)
    pool.expire(14.0)
    assert not wire.aborted
    pool.expire(15.0)
    assert wire.aborted


def test_one_that_ends_after_all_is_forgotten() -> None:
    pool = StreamPool(idle_timeout=10)
    stream, wire = opened()
    pool.put(stream, 0.0)
    pool.expire(10.0)
    stream.eof_received()
    stream.connection_lost(None)
    pool.expire(100.0)
    assert not wire.aborted
    assert pool.statistics().expired == 1
    assert pool.statistics().lost == 0


def test_the_end_of_a_session_ends_its_streams() -> None:
    pool = StreamPool()
    pairs = [opened(ONE, WEB), opened(ONE, SSH), opened(TWO, WEB)]
    for stream, _ in pairs:
        pool.put(stream, 0.0)
    assert pool.evict(ONE, 0.0) == 2
    assert [wire.ended for _, wire in pairs] == [True, True, False]
    assert repr(pool) == "<StreamPool 1 idle streams to 1 services>"


def test_a_stream_of_a_session_that_was_evicted_meanwhile_is_ended() -> None:
    """Its request was under way when the device began to drain; kept, it would hold up the drain for the grace."""
    pool = StreamPool()
    stream, wire = opened(ONE)
    pool.evict(ONE, 0.0)
    assert not pool.put(stream, 1.0)
    assert wire.ended
    assert not wire.aborted
    assert pool.take(ONE, WEB, 1.0) is None


def test_one_is_retired_without_having_been_idle() -> None:
    pool = StreamPool()
    stream, wire = opened()
    pool.retire(stream, 0.0)
    assert wire.ended
    assert pool.take(ONE, WEB, 0.0) is None
    pool.expire(6.0)
    assert wire.aborted


def test_closing_resets_all() -> None:
    pool = StreamPool()
    idle, idling = opened()
    going, ending = opened()
    pool.put(idle, 0.0)
    pool.retire(going, 0.0)
    pool.close()
    assert idling.aborted
    assert ending.aborted
    assert len(pool) == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([ONE, TWO]), st.sampled_from([WEB, SSH])),
        st.tuples(st.just("take"), st.sampled_from([ONE, TWO]), st.sampled_from([WEB, SSH])),
        st.tuples(st.just("lose"), st.integers(0, 20), st.sampled_from(["data_received", "eof_received"])),
        st.tuples(st.just("wait"), st.floats(0, 20), st.none()),
        st.tuples(st.just("evict"), st.just(ONE), st.none()),
    ),
    max_size=60,
)


@given(steps=steps)
def test_it_agrees_with_a_list(steps: list[tuple[str, object, object]]) -> None:
    now = 0.0
    pool = StreamPool(max_idle=6, max_idle_per_service=3, idle_timeout=30)
    model: list[RelayStream] = []
    evicted = set()
    for kind, first, second in steps:
        if kind == "put":
            stream, _ = opened(first, second)  # type: ignore[arg-type]
            if first in evicted:
                assert not pool.put(stream, now)
                continue
            same = [other for other in model if (other.session_id, other.service) == (first, second)]
            if len(same) == 3:
                model.remove(same[0])
            elif len(model) == 6:
                model.pop(0)
            model.append(stream)
            pool.put(stream, now)
        elif kind == "take":
            same = [other for other in model if (other.session_id, other.service) == (first, second)]
            expected = same[-1] if same else None
            assert pool.take(first, second, now) is expected  # type: ignore[arg-type]
            if expected is not None:
                model.remove(expected)
        elif kind == "lose" and model:
            stream = model.pop(first % len(model))  # type: ignore[operator]
            getattr(stream, second)(*([b"x"] if second == "data_received" else []))  # type: ignore[call-overload]
        elif kind == "wait":
            now += first  # type: ignore[operator]
            model = [stream for stream in model if now - stream.idle_since < 30]
            pool.expire(now)
        elif kind == "evict":
            model = [stream for stream in model if stream.session_id != first]
            evicted.add(first)
            pool.evict(first, now)  # type: ignore[arg-type]
        assert len(pool) == len(model)
