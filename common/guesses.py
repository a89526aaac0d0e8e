"""Limits on wrong credentials from one address: a token bucket each, in a table of bounded size, time passed in.

A wrong credential takes one from the bucket of its address. What an empty bucket refuses is the caller's choice: the
API server goes on to answer valid tokens (behind one address there may be a whole office, and a neighbour's mistakes
must not lock it out); the relay, whose look costs a signature check, does not look any more. Guessing itself fails on
256 random bits, or on a signature: what is limited is what a wrong one costs, and what it fills logs with.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

__all__ = ["GuessLimiter", "subscriber"]


class GuessLimiter:
    """One bucket an address; an IPv6 address counts as its /64, which is what one subscriber is given.

    Args:
        burst: wrong credentials that are answered at once.
        interval: seconds until one more is.
        max_addresses: buckets that are kept. The one that was not used for longest makes way, which at worst gives
            its address a fresh burst.
    """

    __slots__ = ("_buckets", "_burst", "_interval", "_max_addresses")

    def __init__(self, *, burst: int = 10, interval: float = 6.0, max_addresses: int = 10_000) -> None:
        self._burst = burst
        self._interval = interval
        self._max_addresses = max_addresses
        # Address -> the time at which its bucket is full again; one number says all (the "virtual scheduling" form of
        # the generic cell rate algorithm, ITU-T I.371).
        self._buckets: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, address: str, now: float) -> float:
        """Seconds until a wrong credential of that address would be answered; 0.0 if one would be now. Counts nothing.

        Args:
            address: of the client.
            now: seconds, monotonic.
        """
        full_at = self._buckets.get(subscriber(address), now)
        return max(0.0, full_at - now - (self._burst - 1) * self._interval)

    def wrong(self, address: str, now: float) -> float | None:
        """Count a wrong credential.

        Args:
            address: of the client.
            now: seconds, monotonic.

        Returns:
            None, or the seconds after which the next one will be answered.
        """
        key = subscriber(address)
        full_at = max(self._buckets.get(key, now), now)
        wait = full_at - now - (self._burst - 1) * self._interval
        if wait > 0:
            return wait
        self._buckets[key] = full_at + self._interval
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_addresses:
            self._buckets.popitem(last=False)
        return None


def subscriber(address: str) -> str:
    """Who an address stands for: itself, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False).network_address)
