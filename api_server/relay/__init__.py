"""The relay, as the API server uses it.

ProxyClient ──> ProxyClientStore, RemoteHandle       sessions: list, look up, close
    │   └─────> EventFeed ──> DialerUpdates          what happens to them
    └──> SessionDirectory ┐
         StreamPool ──────┼─> ServiceDialer          streams to services, for the gateway
         Forwarder ───────┘
"""

from __future__ import annotations

from api_server.relay.absence import Absence
from api_server.relay.client import ProxyClient
from api_server.relay.dialer import ServiceDialer
from api_server.relay.directory import Location, SessionDirectory
from api_server.relay.events import EventKind, SessionEvent
from api_server.relay.feed import DialerUpdates, EventFeed, EventListener, NoticeListener
from api_server.relay.forwarder import Forwarder
from api_server.relay.pool import StreamPool
from api_server.relay.store import ProxyClientStore, RemoteHandle
from api_server.relay.stream import RelayStream

__all__ = [
    "Absence",
    "DialerUpdates",
    "EventFeed",
    "EventKind",
    "EventListener",
    "Forwarder",
    "Location",
    "NoticeListener",
    "ProxyClient",
    "ProxyClientStore",
    "RelayStream",
    "RemoteHandle",
    "ServiceDialer",
    "SessionDirectory",
    "SessionEvent",
    "StreamPool",
]
