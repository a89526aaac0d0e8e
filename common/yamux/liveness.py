"""Is the peer alive, and how far away is it.

Any byte received is life, also a part of a frame: a busy peer is never declared dead because its answer to a ping waits
behind its data (as hashicorp/yamux does, whose ping timeout is its write timeout). A ping goes out after some silence
(`Config.probe_interval`), and now and then to measure the round trip. Death needs both: `Config.dead_after` of silence,
and a ping that had its full time to be answered.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from common.yamux.config import Config

__all__ = ["Liveness", "Verdict"]


class Verdict(Enum):
    """What `Liveness.check` asks for."""

    WAIT = 0
    """Nothing, until `Liveness.deadline`."""
    PROBE = 1
    """Send a ping, with `Liveness.ping_sent`."""
    DEAD = 2
    """Give the peer up."""


class Liveness:
    """Probes and round trips of one session.

    Args:
        config: its timings.
        now: the time; the peer counts as just heard.
    """

    __slots__ = ("_config", "_lowest", "_measured_at", "_ping_at", "_ping_value", "deadline", "heard", "rtt")

    def __init__(self, config: Config, now: float) -> None:
        self._config = config
        self.heard = now
        """When the last byte came."""
        self.rtt: float | None = None
        """Seconds, the last measured round trip."""
        self.deadline = now
        """When to check again."""
        self._lowest: float | None = None
        self._measured_at = now - config.rtt_interval  # the first check measures
        self._ping_at: float | None = None
        self._ping_value = 0

    @property
    def path_delay(self) -> float:
        """Seconds of the path alone: about the lowest round trip of late, for those measured under load hold our own
        queues. 0 before the first.
        """
        return self._lowest or 0.0

    def tighten(self, probe_interval: float, dead_after: float) -> None:
        """Take over the peer's times where they are shorter: two ends that give up at about the same time are both
        ready for the next connection. Times that make no sense are ignored. `check` is due afterwards.
        """
        if 0 < probe_interval < dead_after:
            config = self._config
            self._config = replace(
                config,
                probe_interval=min(config.probe_interval, probe_interval),
                dead_after=min(config.dead_after, dead_after),
            )

    @property
    def is_probing(self) -> bool:
        """Whether a ping of ours is not yet answered."""
        return self._ping_at is not None

    def check(self, now: float) -> Verdict:
        """What to do now; `deadline` is then when to ask again, at the latest."""
        config = self._config
        if self._ping_at is None:
            due = min(self.heard + config.probe_interval, self._measured_at + config.rtt_interval)
            if now >= due:
                return Verdict.PROBE
            self.deadline = due
            return Verdict.WAIT
        due = self._death(self._ping_at)
        if now < due:
            self._wait_for_answer(now, due)
            return Verdict.WAIT
        if now - due > config.probe_interval:
            # Nobody asked for that long: the process or the machine slept, and the answer may lie unread.
            self._ping_at = now
            self._wait_for_answer(now, self._death(now))
            return Verdict.WAIT
        return Verdict.DEAD

    def ping_sent(self, now: float) -> int:
        """Note a ping, and give the value to put into it. At most one is under way at a time."""
        self._ping_at = now
        self._ping_value = (self._ping_value + 1) & 0xFFFF_FFFF
        self._wait_for_answer(now, self._death(now))
        return self._ping_value

    def pong_received(self, value: int, now: float) -> float | None:
        """Note an answer. Returns the round trip in seconds; None if nothing was asked with that value."""
        if self._ping_at is None or value != self._ping_value:
            return None
        rtt = max(now - self._ping_at, 0.0)
        self._ping_at = None
        self._measured_at = now
        self.rtt = rtt
        # Forgets by a tenth a sample, so that a path which has become longer is learnt in a few minutes.
        self._lowest = rtt if self._lowest is None else min(rtt, self._lowest * 1.1)
        return rtt

    def _wait_for_answer(self, now: float, death: float) -> None:
        # The answer may come at once and be the last that is heard; the next probe is then due that much earlier.
        self.deadline = min(death, now + self._config.probe_interval)

    def _death(self, ping_at: float) -> float:
        """When the peer is dead, if nothing comes."""
        config = self._config
        return max(self.heard + config.dead_after, ping_at + config.dead_after - config.probe_interval)
