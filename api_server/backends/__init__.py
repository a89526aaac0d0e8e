"""Streams to backends: https (and, where the owner of the installation allows it, http) servers that routes lead to.

    Backends             all of one gateway: how many connections, idle ones, figures
      BackendStreams     those of one backend; the gateway's source of streams for a route
        BackendStream    one connection, over TLS or not
    outbound.Connector   where a connection may go (G3), the certificate

A backend's redirect is an answer like any other: it is passed on, and never followed.
"""

from __future__ import annotations

from api_server.backends.backends import Backends, BackendStatistics, BackendStreams
from api_server.backends.errors import BackendFullError
from api_server.backends.metrics import BackendMetrics
from api_server.backends.stream import BackendStream

__all__ = ["BackendFullError", "BackendMetrics", "BackendStatistics", "BackendStream", "BackendStreams", "Backends"]
