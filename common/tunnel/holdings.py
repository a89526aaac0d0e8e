"""What a process holds in memory for its streams, under one limit.

Held is what arrived on one side and cannot leave on the other: bytes of a peer whose sink is paused, bytes that wait to
be sent to the peer, and what a connection did not take of the last write. Receive windows bound it for each stream, but
yamux gives every stream 256 KiB that cannot be taken back: ten thousand readers that stop could hold 2.5 GiB.

    more than half the limit  streams that send are held from 16 KiB on, instead of 256 KiB
    more than the limit       whoever holds the most loses the stream that holds the most, until there is room

The streams that are reset are the ones whose readers stopped: one that flows holds nothing for longer than a turn of
the loop. A reset costs its reader a retry; running out of memory would cost everybody all of them.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["UNCOUNTED", "Holder", "Holdings"]

UNCOUNTED = 16 * 1024
"""Bytes of one holder that are not worth counting: what is in passing."""


class Holder(Protocol):
    """Something that holds bytes for streams: a tunnel, or the connections that a relay's clients have not read out."""

    def shed(self) -> bool:
        """Give up what holds the most, and report; False if there is nothing to give up. Nothing is called back from
        inside this call.
        """


class Holdings:
    """The account.

    Args:
        limit: bytes.
    """

    __slots__ = ("_holders", "_relieving", "limit", "shed", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        """Bytes held now."""
        self.shed = 0
        """Streams given up so far."""
        self._holders: dict[Holder, int] = {}
        self._relieving = False

    def __repr__(self) -> str:
        return f"<Holdings {self.used} of {self.limit} bytes, {len(self._holders)} holders>"

    @property
    def is_pressed(self) -> bool:
        """Whether to hold writers early."""
        return self.used * 2 > self.limit

    def report(self, holder: Holder, size: int) -> None:
        """Note that `holder` holds `size` bytes now, and make room if that is too much."""
        holders = self._holders
        self.used += size - holders.get(holder, 0)
        if size:
            holders[holder] = size
        else:
            holders.pop(holder, None)
        if self.used > self.limit and not self._relieving:
            self._relieve()

    def _relieve(self) -> None:
        self._relieving = True
        spent: set[Holder] = set()
        try:
            while self.used > self.limit:
                left = [holder for holder in self._holders if holder not in spent]
                if not left:
                    return
                largest = max(left, key=self._holders.__getitem__)
                if largest.shed():
                    self.shed += 1
                else:
                    spent.add(largest)
        finally:
            self._relieving = False
