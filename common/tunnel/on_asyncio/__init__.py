"""The tunnel on asyncio: callback Protocols, made for uvloop."""

from common.tunnel.on_asyncio.client import connect_tunnel
from common.tunnel.on_asyncio.server import TunnelListener

__all__ = ["TunnelListener", "connect_tunnel"]
