"""How often one caller is handed a token: a bucket each, in a table of bounded size, time passed in. No I/O.

Each hand-out costs a line in the audit log, whose end all writers wait for; and who takes many tokens has no use for
them that a few would not serve.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Pace"]


class Pace:
    """One bucket a key.

    Args:
        burst: at once.
        interval: seconds until one more.
        max_keys: buckets that are kept; the one that was not used for longest makes way.
    """

    __slots__ = ("_buckets", "_burst", "_interval", "_max_keys")

    def __init__(self, *, burst: int, interval: float, max_keys: int = 10_000) -> None:
        self._burst = burst
        self._interval = interval
        self._max_keys = max_keys
        # Key -> the time at which its bucket is full again (the generic cell rate algorithm, ITU-T I.371).
        self._buckets: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> float | None:
        """Take one.

        Args:
            key: of the bucket.
            now: seconds, monotonic.

        Returns:
            None, or the seconds after which there is one again.
        """
        full_at = max(self._buckets.get(key, now), now)
        wait = full_at - now - (self._burst - 1) * self._interval
        if wait > 0:
            return wait
        self._buckets[key] = full_at + self._interval
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return None
