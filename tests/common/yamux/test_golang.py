"""hashicorp/yamux as the oracle: the same session, half of it Go, over TCP on this machine, in both roles."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from common.yamux import Config, GoAwayReceived, GoneAwayError, Pong, ResetReason, Role, TooManyPendingOpensError
from tests.common.yamux.loopback import loopback

MIB = 1 << 20
PATTERN = bytes((7 * i + i // 256) & 255 for i in range(65_536))

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go: apt-get install golang-go")
ROLES = pytest.mark.parametrize("role", Role)


def content(n: int, seed: int = 0) -> bytes:
    """Some bytes that differ from stream to stream."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(n)


@ROLES
def test_64_streams_at_once_that_we_open(role: Role) -> None:
    with loopback(role) as end:
        ids = {end.open(b"echo\n" + content(100_000, seed), end=True): seed for seed in range(64)}
        end.run_until(lambda: all(end.streams[stream_id].closed for stream_id in ids))
        for stream_id, seed in ids.items():
            assert end.streams[stream_id].received == content(100_000, seed)
        assert end.session.stream_count == 0
        end.tell("idle")
        assert end.answer() == "idle"


@ROLES
def test_64_streams_at_once_that_go_opens(role: Role) -> None:
    with loopback(role) as end:
        end.tell("open 64 100000")
        assert end.answer() == "echoed"
        end.run_until(lambda: end.session.stream_count == 0)
        assert len(end.streams) == 64
        assert all(heard.closed for heard in end.streams.values())


@ROLES
@pytest.mark.parametrize("window", [262_144, 4 * MIB])
def test_20_mib_both_ways(role: Role, window: int) -> None:
    config = Config(initial_window=window)
    with loopback(role, config, "-window", str(window)) as end:
        whole = content(20 * MIB)
        stream_id = end.open(b"echo\n" + whole, end=True)
        end.tell(f"open 1 {20 * MIB}")
        end.run_until(lambda: end.streams[stream_id].closed)
        assert hashlib.sha256(end.streams[stream_id].received).digest() == hashlib.sha256(whole).digest()
        assert end.answer() == "echoed"


@ROLES
def test_a_large_window_of_ours_is_used(role: Role) -> None:
    with loopback(role, Config(initial_window=4 * MIB)) as end:
        assert end.ask(f"bytes {20 * MIB}") == (PATTERN * 320)
        assert end.session.statistics().window_reserved == 0


@ROLES
def test_half_close(role: Role) -> None:
    with loopback(role) as end:
        # The answer needs our end first, and arrives after it.
        assert end.ask("sha256") == hashlib.sha256().hexdigest().encode()
        stream_id = end.open(b"sha256\n" + PATTERN * 16)
        end.run_until(lambda: end.session.buffered(stream_id) == 0)
        assert not end.streams[stream_id].received
        end.session.end_stream(stream_id)
        end.run_until(lambda: end.streams[stream_id].closed)
        assert end.streams[stream_id].received == hashlib.sha256(PATTERN * 16).hexdigest().encode()


@ROLES
def test_one_that_ends_first_takes_what_we_still_send(role: Role) -> None:
    with loopback(role) as end:
        stream_id = end.open(b"close\n")
        end.run_until(lambda: end.streams[stream_id].ended)
        end.session.send_data(stream_id, b"nobody reads this")
        end.session.end_stream(stream_id)
        end.run_until(lambda: end.streams[stream_id].closed)
        assert end.ask("bytes 10") == PATTERN[:10]


@ROLES
def test_our_reset(role: Role) -> None:
    with loopback(role) as end:
        end.reset_on = b"until-error\n"
        end.tell("until-error")
        assert end.answer() == "connection reset"
        end.tell("idle")
        assert end.answer() == "idle"
        # And one that we opened, with data on the way in both directions.
        stream_id = end.open(b"echo\n" + bytes(MIB))
        end.run_until(lambda: bool(end.streams[stream_id].received))
        end.session.reset_stream(stream_id, 1)
        assert end.ask("bytes 100000") == (PATTERN * 2)[:100_000]
        end.tell("idle")
        assert end.answer() == "idle"


@ROLES
def test_go_refuses_beyond_its_backlog(role: Role) -> None:
    with loopback(role, None, "-backlog", "4", "-accept=false") as end:
        ids = [end.open(b"bytes 5\n", end=True) for _ in range(10)]
        end.run_until(lambda: sum(end.streams[stream_id].reset_code is not None for stream_id in ids) == 6)
        assert [end.streams[stream_id].reset_code for stream_id in ids] == [None] * 4 + [0] * 6
        end.tell("accept")
        end.run_until(lambda: all(end.streams[stream_id].closed for stream_id in ids[:4]))
        assert all(end.streams[stream_id].received == PATTERN[:5] for stream_id in ids[:4])
        assert end.session.statistics().pending_opens == 0


@ROLES
def test_we_stop_at_its_backlog(role: Role) -> None:
    with loopback(role, None, "-accept=false") as end:
        ids = [end.open(b"bytes 5\n", end=True) for _ in range(256)]
        with pytest.raises(TooManyPendingOpensError):
            end.open()
        end.tell("accept")
        end.run_until(lambda: all(end.streams[stream_id].closed for stream_id in ids))
        assert end.ask("bytes 5") == PATTERN[:5]


@ROLES
def test_go_opens_more_than_its_backlog(role: Role) -> None:
    # It stops at 256 that we have not ACKed; each ACK of ours must count exactly once there.
    with loopback(role) as end:
        for _ in range(3):
            end.tell("open 400 100")
            assert end.answer() == "echoed"


@ROLES
def test_our_cap_on_streams(role: Role) -> None:
    with loopback(role, Config(max_streams=8)) as end:

        def opened() -> int:
            statistics = end.session.statistics()
            return statistics.streams_accepted + statistics.streams_refused

        end.hold = True  # no stream ends before all have been opened
        end.tell("open 20 300000")
        end.run_until(lambda: opened() == 20)
        assert end.session.statistics().streams_refused == 12
        end.hold = False
        assert "connection reset" in end.answer()
        end.run_until(lambda: end.session.stream_count == 0)
        end.tell("open 8 1000")
        assert end.answer() == "echoed"
        assert opened() == 28


@ROLES
def test_pings(role: Role) -> None:
    with loopback(role) as end:
        for _ in range(3):
            end.session.ping(0.0)
            end.run_until(lambda: bool(end.others))
            [pong] = end.others
            assert type(pong) is Pong
            end.others.clear()
            end.tell("ping")
            assert end.answer() == "pong"


@ROLES
def test_go_goes_away(role: Role) -> None:
    with loopback(role) as end:
        stream_id = end.open(b"echo\n")
        end.run_until(lambda: end.session.statistics().pending_opens == 0)
        end.tell("goaway")
        assert end.answer() == "gone away"
        end.run_until(lambda: bool(end.others))
        assert end.others == [GoAwayReceived(0)]
        with pytest.raises(GoneAwayError):
            end.open()
        end.session.send_data(stream_id, b"still open")
        end.session.end_stream(stream_id)
        end.run_until(lambda: end.streams[stream_id].closed)
        assert end.streams[stream_id].received == b"still open"


@ROLES
def test_we_go_away(role: Role) -> None:
    with loopback(role) as end:
        stream_id = end.open(b"echo\n")
        end.run_until(lambda: end.session.statistics().pending_opens == 0)
        # Go opens a stream before the GoAway reaches it: it is refused by reset, and the session lives.
        end.hold = True
        end.session.go_away()
        end.tell("until-error")
        end.run_until(lambda: end.session.statistics().streams_refused == 1)
        end.hold = False
        # From its read; or from the write before it, if the reset was there already.
        assert end.answer() in ("connection reset", "error: connection reset")
        end.tell("until-error")
        assert end.answer() == "error: remote end is not accepting connections"
        end.session.send_data(stream_id, b"still open")
        end.session.end_stream(stream_id)
        end.run_until(lambda: end.streams[stream_id].closed)
        assert end.streams[stream_id].received == b"still open"


def test_codes_are_no_surprise_to_go() -> None:
    # It adds the length of a RST to the window of a stream that is over.
    with loopback(Role.SERVER) as end:
        for code in (ResetReason.PROTOCOL, 0xFFFF_FFFF):
            stream_id = end.open(b"hold\n")
            end.run_until(lambda: end.session.statistics().pending_opens == 0)
            end.session.reset_stream(stream_id, code)
        assert end.ask("bytes 3") == PATTERN[:3]
