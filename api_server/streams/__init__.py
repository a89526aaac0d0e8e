"""Streams over sockets of ours, wherever they lead: to a device through the relay, or to a backend."""

from __future__ import annotations

from api_server.streams.pool import IdleStreams, PoolStatistics
from api_server.streams.stream import SocketStream, StreamKey, StreamPhase

__all__ = ["IdleStreams", "PoolStatistics", "SocketStream", "StreamKey", "StreamPhase"]
