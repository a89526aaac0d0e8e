"""The tunnel on trio: readiness and non-blocking calls on the socket, without streams between."""

from common.tunnel.on_trio.client import Connect, connect_tcp, run_client_tunnel
from common.tunnel.on_trio.server import serve_tunnel

__all__ = ["Connect", "connect_tcp", "run_client_tunnel", "serve_tunnel"]
