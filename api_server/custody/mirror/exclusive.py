"""One process at a time at a destination."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from api_server.custody.documents.interfaces import Documents
from api_server.custody.errors import StoreBusyError
from api_server.leases.interfaces import Lease, Leases

__all__ = ["LEASE", "exclusive", "lease_name"]

LEASE = 15.0
"""Seconds; it is renewed while somebody is at it. What a process that was killed leaves runs out as fast."""

_POLL = 0.5
"""Seconds between two attempts to get it."""


def lease_name(documents: Documents) -> str:
    """Of the lease on a destination."""
    return f"custody:{documents.name}"


@contextlib.asynccontextmanager
async def exclusive(leases: Leases, documents: Documents, *, patience: float = 0.0) -> AsyncIterator[Lease]:
    """Keep the other processes, such as an API server that syncs, away from a destination.

    Args:
        leases: of the installation.
        documents: at the destination.
        patience: seconds to wait for another process.

    Raises:
        StoreBusyError: another one is at it.
    """
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(1 + round(patience / _POLL)):
            lease = await stack.enter_async_context(leases.hold(lease_name(documents), LEASE))
            if lease is not None:
                yield lease
                return
            await asyncio.sleep(_POLL)
    raise StoreBusyError(f"another process is at {documents.destination}; try again")
