"""An installation to which nobody can connect anything, for tests of everything else."""

from __future__ import annotations

from typing import Any

from api_server.connections import Connections
from common.clock import Clock

__all__ = ["no_connections"]


def no_connections(clock: Clock) -> Connections:
    """`/api/providers` and what goes with it, while no provider is set up."""
    unasked: Any = None
    return Connections({}, unasked, clock)
