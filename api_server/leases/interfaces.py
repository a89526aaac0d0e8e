"""What other domains ask of leases.

    acquire ──> Lease, or None while somebody else has it
        │  the work: a call to a provider, without any transaction
        ├─ renew      now and then, by `hold`
        └─ check(tx)  in the transaction that keeps what came of it: raises when somebody else has taken over meanwhile
    release

Invariants: of all who hold a lease of a name, one after the other, each has a greater fencing token than the one
before; a transaction that has checked a token commits before anybody gets a greater one. So a holder that was
suspended for longer than its lease cannot write over what its successor has written.

A holder that dies delays the others by what is left of the lease, and no longer. Moments are those of the processes'
own clocks: where they differ, a lease is a little longer or shorter, and the fencing token holds all the same.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Lease", "Leases"]


@dataclass(frozen=True, slots=True)
class Lease:
    """That somebody holds a name, until a moment."""

    name: str
    owner: str
    """A process, and which of its holders; for people who look into the table."""
    token: int
    """The fencing token: greater than that of every lease of the name before."""
    expires_at: float
    """Seconds since the Unix epoch."""


class Leases(Protocol):
    """Where leases are had."""

    async def acquire(self, name: str, seconds: float) -> Lease | None:
        """Take the lease of a name; None while somebody else, in this process or another, holds it.

        Args:
            name: at most 200 characters.
            seconds: that it lasts.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...

    async def renew(self, lease: Lease, seconds: float) -> Lease:
        """Hold it for `seconds` from now. One that has run out can be renewed as long as nobody else has taken it.

        Raises:
            DatabaseError: it cannot be told.
            LeaseLostError: somebody else has it.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Give it back. That it is lost already is no error.

        Raises:
            DatabaseError: it could not be given back, and runs out by itself.
        """
        ...

    async def check(self, tx: AsyncConnection, lease: Lease) -> None:
        """Within the holder's own `Database.write`: nobody else takes the lease before the transaction has ended.

        Raises:
            LeaseLostError: somebody else has it. Let it pass: the transaction must not commit.
        """
        ...

    async def until(self, name: str) -> float | None:
        """When the lease of a name runs out, in seconds since the Unix epoch; None when nobody holds it.

        Raises:
            DatabaseError: it cannot be told.
        """
        ...

    def hold(self, name: str, seconds: float) -> AbstractAsyncContextManager[Lease | None]:
        """`acquire`, renewed while the block runs, and `release` after it.

        The block gets None while somebody else holds it. That renewing fails is not told to the block, whose `check`
        decides.

        Raises:
            DatabaseError: it cannot be told, before the block.
        """
        ...

    async def forget(self, tx: AsyncConnection, name: str) -> None:
        """Drop the row of a name that is not used any more; a holder, if there is one, fails its `check`."""
        ...
