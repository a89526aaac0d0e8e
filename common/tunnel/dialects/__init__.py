"""How a stream to a service begins, one type for each end of each subprotocol.

What a shell needs is one function for each end: from the subprotocol that the handshake agreed on to the end that
speaks it.
"""

from __future__ import annotations

from collections.abc import Callable

from common.tunnel.config import TunnelConfig
from common.tunnel.core import TunnelCore
from common.tunnel.dialects.homeport_v1 import HomeportDevice, HomeportRelay
from common.tunnel.dialects.raw_yamux import RawDevice, RawRelay
from common.tunnel.interfaces import DeviceHandler, RelayHandler, Subprotocol
from common.tunnel.link import Link
from common.wire.messages import DeviceHello
from common.yamux import MemoryBudget

__all__ = ["HomeportDevice", "HomeportRelay", "RawDevice", "RawRelay", "open_device_tunnel", "open_relay_tunnel"]


def open_relay_tunnel(
    subprotocol: Subprotocol,
    link: Link,
    handler: RelayHandler,
    *,
    config: TunnelConfig,
    clock: Callable[[], float],
    budget: MemoryBudget | None = None,
) -> tuple[TunnelCore, HomeportRelay | RawRelay]:
    """The relay's end over a link that was just opened. The handler is told of it; attach a shell to the core next."""
    end: HomeportRelay | RawRelay
    end = HomeportRelay(handler) if subprotocol is Subprotocol.HOMEPORT_V1 else RawRelay(handler)
    return end.open(link, config=config, clock=clock, budget=budget), end


def open_device_tunnel(
    subprotocol: Subprotocol,
    link: Link,
    handler: DeviceHandler,
    *,
    hello: DeviceHello,
    config: TunnelConfig,
    clock: Callable[[], float],
    budget: MemoryBudget | None = None,
) -> tuple[TunnelCore, HomeportDevice | RawDevice]:
    """The device's end over a link that was just opened. The handler is told of it; attach a shell to the core next."""
    end: HomeportDevice | RawDevice
    end = HomeportDevice(handler, hello) if subprotocol is Subprotocol.HOMEPORT_V1 else RawDevice(handler)
    return end.open(link, config=config, clock=clock, budget=budget), end
