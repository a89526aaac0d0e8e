"""The gateway: devices' services, for clients, on a port and so an origin of its own.

Gateway                listener, timer, drain
  ClientConnection     one client: cuts requests out, one after the other
    Exchange           one request and its response            RequestReader, ResponseReader, Answer, framing
      Admission        whether it may go on its way            Gatekeeper, Governor, cors, browsers; replies
    Splice             bytes, after an upgrade                 raw, websocket
  MeteredConnection    what goes by, counted and held up       Governor, Visits
  Gatekeeper           who may                                 api_server.auth
  DeviceRouter         where to                                paths, targets
  StreamSource         by which stream                         device_streams
"""

from __future__ import annotations

from api_server.gateway.gateway import Gateway
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.metrics import GatewayStatistics
from api_server.gateway.routes import Route, Router
from api_server.gateway.targets import RoutedTarget, ServiceTarget, StreamSource, Target, UpstreamCredential

__all__ = [
    "Gateway",
    "GatewayLimits",
    "GatewayStatistics",
    "Route",
    "RoutedTarget",
    "Router",
    "ServiceTarget",
    "StreamSource",
    "Target",
    "UpstreamCredential",
]
