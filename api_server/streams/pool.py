"""Idle streams, kept for the next request, as an HTTP client keeps connections.

A stream in the pool is open both ways and silent. Whatever happens to one (bytes that nobody asked for, an end, a
reset) takes it out. The newest is handed out first: it is the least likely to have been closed at the other end
meanwhile. The oldest goes first when a bound is reached or when it has been idle for too long; it is ended with a FIN,
which a service expects of an idle connection, and reset only if the other end does not answer that.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from api_server.streams.stream import SocketStream, StreamKey
from common.tunnel.stream import Buffer, ResetCode

__all__ = ["IdleStreams", "PoolStatistics"]

S = TypeVar("S", bound=SocketStream)

_REMEMBERED: Final = 4096
"""Places that were evicted and are remembered: as long as an exchange of theirs may still be under way."""

_END_GRACE: Final = 5.0
"""Seconds that the other end has to answer our FIN with its own."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What a pool has done so far, and what it holds."""

    idle: int
    reused: int
    expired: int
    """Streams ended because they were idle for too long, a bound was reached, or their place was over."""
    lost: int
    """Streams that the other end ended, reset or wrote to while they were idle."""


class _IdleSink(Generic[S]):
    """Watches one idle stream."""

    __slots__ = ("_pool", "_stream")

    def __init__(self, pool: IdleStreams[S], stream: S) -> None:
        self._pool = pool
        self._stream = stream

    def data_received(self, data: Buffer) -> None:  # noqa: ARG002
        # Bytes that answer no request. Given to the next one, they would be taken for its response.
        self._pool.stream_changed(self._stream)
        self._stream.reset()

    def eof_received(self) -> None:
        self._pool.stream_changed(self._stream)
        self._stream.end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._pool.stream_changed(self._stream, gone=True)

    def pause_writing(self) -> None:
        """Nothing is being written."""

    def resume_writing(self) -> None:
        """Nothing is being written."""


class IdleStreams(Generic[S]):
    """The idle streams of one gateway. Time is passed in.

    Args:
        max_idle: streams kept, in all.
        max_per_key: streams kept for one key.
        idle_timeout: seconds that one is kept.
    """

    __slots__ = (
        "_by_key",
        "_ending",
        "_evicted",
        "_expired",
        "_idle",
        "_idle_timeout",
        "_lost",
        "_max_idle",
        "_max_per_key",
        "_reused",
    )

    def __init__(self, *, max_idle: int = 2048, max_per_key: int = 64, idle_timeout: float = 30.0) -> None:
        self._max_idle = max_idle
        self._max_per_key = max_per_key
        self._idle_timeout = idle_timeout
        # Dictionaries as ordered sets: the oldest is at the front, and any one is taken out in constant time.
        self._idle: dict[S, None] = {}
        self._by_key: dict[StreamKey, dict[S, None]] = {}
        self._ending: dict[S, float] = {}
        self._evicted: dict[Hashable, None] = {}
        self._reused = self._expired = self._lost = 0

    def __len__(self) -> int:
        return len(self._idle)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._idle)} idle streams to {len(self._by_key)} services>"

    def statistics(self) -> PoolStatistics:
        """Counts so far."""
        return PoolStatistics(len(self._idle), self._reused, self._expired, self._lost)

    def take_by_key(self, key: StreamKey, now: float, max_idle: float | None = None) -> S | None:
        """The idle stream of a key that was used last, out of the pool; None without one.

        Args:
            now: seconds, monotonic.
            max_idle: seconds that it may have been idle at most.
        """
        streams = self._by_key.get(key)
        if streams is not None:
            stream, _ = streams.popitem()
            if max_idle is None or now - stream.idle_since <= max_idle:
                del self._idle[stream]
                if not streams:
                    del self._by_key[key]
                self._reused += 1
                return stream
            # It stays the newest: popitem took it from the end, and there it goes back.
            streams[stream] = None
        return None

    def put(self, stream: S, now: float) -> bool:
        """Keep a stream whose last exchange is complete; one that cannot be used again is reset instead, and one of a
        place that was evicted meanwhile is ended: the place may wait for it.

        Returns:
            Whether it was kept.
        """
        if not stream.reusable or self._max_per_key < 1 or self._max_idle < 1:
            stream.reset()
            return False
        if stream.key[0] in self._evicted:
            self.retire(stream, now)
            return False
        key = stream.key
        streams = self._by_key.get(key)
        if streams is not None and len(streams) >= self._max_per_key:
            self._end(next(iter(streams)), now)
        elif len(self._idle) >= self._max_idle:
            self._end(next(iter(self._idle)), now)
        # Looked up again: ending the last stream of the key has taken the key away.
        self._by_key.setdefault(key, {})[stream] = None
        self._idle[stream] = None
        stream.used += 1
        stream.idle_since = now
        stream.attach(_IdleSink(self, stream))
        return True

    def retire(self, stream: S, now: float) -> None:
        """End a stream whose last exchange is complete and that shall not be used again."""
        stream.attach(_IdleSink(self, stream))
        self._ending[stream] = now
        stream.end()

    def expire(self, now: float) -> int:
        """End the streams that have been idle for too long; to be called about once a second.

        Returns:
            How many there were.
        """
        before = self._expired
        while self._idle:
            oldest = next(iter(self._idle))
            if now - oldest.idle_since < self._idle_timeout:
                break
            self._end(oldest, now)
        while self._ending:
            stream, since = next(iter(self._ending.items()))
            if now - since < _END_GRACE:
                break
            del self._ending[stream]
            stream.reset(ResetCode.TIMEOUT)
        return self._expired - before

    def evict(self, place: Hashable, now: float) -> int:
        """End the idle streams of a place that is over, or that drains and would wait for them; those in use are not
        kept when they come back. Returns how many were idle.
        """
        self._evicted[place] = None
        if len(self._evicted) > _REMEMBERED:
            del self._evicted[next(iter(self._evicted))]
        streams = [stream for key, idle in self._by_key.items() if key[0] == place for stream in idle]
        for stream in streams:
            self._end(stream, now)
        return len(streams)

    def close(self) -> None:
        """Reset all of them."""
        for stream in (*self._idle, *self._ending):
            stream.reset()
        self._idle.clear()
        self._by_key.clear()
        self._ending.clear()

    def stream_changed(self, stream: S, *, gone: bool = False) -> None:
        """Something happened to a stream that was put here; `gone`: it is over. Called by its sink."""
        if stream in self._idle:
            self._lost += 1
            self._remove(stream)
        if gone:
            self._ending.pop(stream, None)

    def _end(self, stream: S, now: float) -> None:
        self._expired += 1
        self._remove(stream)
        self._ending[stream] = now
        stream.end()

    def _remove(self, stream: S) -> None:
        del self._idle[stream]
        key = stream.key
        streams = self._by_key[key]
        del streams[stream]
        if not streams:
            del self._by_key[key]
