"""What the tunnels carry, have carried and refused, counted for metrics without a label a device."""

from __future__ import annotations

from collections import Counter

__all__ = ["Traffic"]


class Traffic:
    """Totals since the start, which only rise, and the streams of now. Plain integers, read at a scrape alone."""

    __slots__ = ("bytes_in", "bytes_out", "opened", "opens_failed", "streams", "tunnels_closed", "tunnels_opened")

    def __init__(self) -> None:
        self.bytes_in = 0
        """Payload bytes from devices."""
        self.bytes_out = 0
        """Payload bytes to devices."""
        self.streams = 0
        """Open streams that carry a service, as of the last count."""
        self.opened = 0
        """Streams that a device accepted."""
        self.opens_failed: Counter[str] = Counter()
        """Streams that did not open, by the code of the error; the codes are ours, so they are few."""
        self.tunnels_opened: Counter[str] = Counter()
        """By subprotocol."""
        self.tunnels_closed: Counter[str] = Counter()
        """By reason; a reason of the device's own making counts as `closed_by_device`."""
