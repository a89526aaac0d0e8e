"""What all tunnels of a process hold, counted and bounded."""

from __future__ import annotations

import pytest

from common.tunnel.config import TunnelConfig
from common.tunnel.holdings import UNCOUNTED, Holdings
from common.tunnel.stream import ResetCode
from common.yamux import Config as YamuxConfig
from tests.common.tunnel.fakes import RecordingSink
from tests.common.tunnel.pair import Pair, echo

KIB = 1024
MIB = 1024 * KIB
WINDOW = YamuxConfig().initial_window
CONFIG = TunnelConfig()


class FakeHolder:
    def __init__(self, holdings: Holdings, *streams: int) -> None:
        self._holdings = holdings
        self.streams = sorted(streams)
        self.report()

    def report(self) -> None:
        self._holdings.report(self, sum(self.streams))

    def shed(self) -> bool:
        if not self.streams:
            return False
        self.streams.pop()
        self.report()
        return True


def test_whoever_holds_the_most_gives_up_what_holds_the_most() -> None:
    holdings = Holdings(100)
    small, large = FakeHolder(holdings, 30), FakeHolder(holdings, 5, 20, 40)
    assert (holdings.used, holdings.shed) == (95, 0)
    small.streams.append(10)
    small.report()
    assert (small.streams, large.streams) == ([30, 10], [5, 20])
    assert (holdings.used, holdings.shed) == (65, 1)


def test_one_that_has_nothing_to_give_up_does_not_stand_in_the_way_of_others() -> None:
    holdings = Holdings(100)
    stubborn = FakeHolder(holdings)
    other = FakeHolder(holdings, 30, 40)
    holdings.report(stubborn, 90)
    assert other.streams == []
    assert holdings.used == 90
    holdings.report(stubborn, 110)
    assert holdings.used == 110
    holdings.report(stubborn, 0)
    assert holdings.used == 0


def pairs(holdings: Holdings, number: int, config: TunnelConfig = CONFIG) -> list[Pair]:
    made = [Pair(config=config) for _ in range(number)]
    for pair in made:
        pair.relay_core.count_into(holdings)
    return made


def stalled(pair: Pair, size: int) -> RecordingSink:
    """A stream whose sink at the relay stopped, and whose device sent `size` bytes."""
    near, far = pair.open()
    assert near.stream is not None
    near.stream.pause_reading()
    far.write(bytes(size))
    pair.pump()
    return near


def test_bytes_that_a_paused_sink_was_given_are_held_until_it_goes_on() -> None:
    holdings = Holdings(MIB)
    [pair] = pairs(holdings, 1)
    near = stalled(pair, 100 * KIB)
    assert holdings.used == 100 * KIB
    assert near.stream is not None
    near.stream.resume_reading()
    assert holdings.used == 0


@pytest.mark.parametrize("end", ["reset", "by the peer", "tunnel"])
def test_what_was_held_is_not_held_any_more_when_the_stream_is_over(end: str) -> None:
    holdings = Holdings(MIB)
    [pair] = pairs(holdings, 1)
    near, far = pair.open()
    assert near.stream is not None
    assert far.stream is not None
    near.stream.pause_reading()
    far.stream.pause_reading()
    far.write(bytes(100 * KIB))
    near.write(bytes(WINDOW + 50 * KIB))
    pair.pump()
    assert 150 * KIB <= holdings.used <= 151 * KIB
    if end == "reset":
        near.stream.reset()
    elif end == "by the peer":
        far.stream.reset()
    else:
        pair.device.tunnel.close()
    pair.pump()
    assert holdings.used == 0


def test_bytes_that_wait_for_the_device_are_held() -> None:
    holdings = Holdings(MIB)
    [pair] = pairs(holdings, 1)
    near, _ = pair.open()
    near.write(bytes(200 * KIB))
    assert holdings.used == 200 * KIB
    pair.pump()
    assert holdings.used == 0


def test_what_the_connection_did_not_take_is_held() -> None:
    holdings = Holdings(MIB)
    [pair] = pairs(holdings, 1)
    pair.relay_core.left_unsent(130 * KIB)
    assert holdings.used == 130 * KIB
    pair.relay_core.connection_lost(None)
    assert holdings.used == 0


def test_what_is_in_passing_is_not_counted() -> None:
    holdings = Holdings(MIB)
    [pair] = pairs(holdings, 1)
    near, _ = pair.open(echo)
    near.write(bytes(UNCOUNTED))
    assert holdings.used == 0
    near.write(b"x")
    assert holdings.used == UNCOUNTED + 1


def test_the_stalled_stream_that_holds_the_most_is_reset_and_no_other() -> None:
    holdings = Holdings(300 * KIB)
    one, two = pairs(holdings, 2)
    flowing, _ = one.open(echo)
    least, most, last = stalled(one, 60 * KIB), stalled(one, 150 * KIB), stalled(two, 80 * KIB)
    assert holdings.used <= holdings.limit
    another = stalled(two, 60 * KIB)
    one.pump()
    two.pump()
    assert most.reset_code is ResetCode.LIMIT
    assert [sink.lost for sink in (least, last, another, flowing)] == [[]] * 4
    assert (holdings.used, holdings.shed) == (200 * KIB, 1)
    flowing.write(b"fine")
    one.pump()
    assert flowing.received == b"fine"


def test_a_stream_that_takes_too_much_may_be_the_one_that_is_reset() -> None:
    """From inside its own write, or while it is being given bytes."""
    holdings = Holdings(100 * KIB)
    [pair] = pairs(holdings, 1)
    sink = stalled(pair, 150 * KIB)
    assert sink.reset_code is ResetCode.LIMIT
    near, _ = pair.open()
    near.write(bytes(150 * KIB))
    pair.pump()
    assert near.reset_code is ResetCode.LIMIT
    assert holdings.used == 0
    assert not pair.relay.closed


def test_writers_are_held_early_while_the_process_holds_much() -> None:
    holdings = Holdings(MIB)
    one, two = pairs(holdings, 2)
    near, _ = one.open()
    near.write(bytes(UNCOUNTED + 1))
    assert not near.writing_paused
    crowd = [stalled(two, 200 * KIB) for _ in range(3)]
    assert holdings.is_pressed
    near.write(b"x")
    assert near.writing_paused
    one.pump()
    assert not near.writing_paused
    assert [sink.lost for sink in crowd] == [[]] * 3


def test_the_rest_of_a_large_buffer_is_not_kept_whole_while_it_waits_for_credit() -> None:
    [pair] = pairs(Holdings(MIB), 1)
    near, far = pair.open()
    assert far.stream is not None
    far.stream.pause_reading()
    near.write(bytes(WINDOW + 10 * KIB))
    pair.pump()
    (stream,) = (stream for stream in pair.relay_core.session._streams.values() if stream.queued)
    assert type(stream.head) is bytes
    assert len(stream.head) == stream.queued <= 11 * KIB
