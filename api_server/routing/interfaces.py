"""What routes need of other domains."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from common.ids import TeamId

__all__ = ["DeviceBook", "Url", "UrlPolicy"]


class DeviceBook(Protocol):
    """Which devices there are."""

    async def id_of(self, tx: AsyncConnection, team: TeamId, device: str) -> str | None:
        """The id of a device of a team, by its id or name; None when there is none."""
        ...

    async def names_of(self, tx: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
        """The names of those of the devices that there are, by their ids."""
        ...

    async def labelled(
        self, tx: AsyncConnection, labels: Collection[str]
    ) -> Mapping[tuple[TeamId, str], tuple[str, ...]]:
        """Ids of the devices that have one of these labels, in order, by their team and the label."""
        ...


class Url(Protocol):
    """Where a URL leads."""

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        ...

    @property
    def authority(self) -> str:
        """Host and port, as `Host` says it."""
        ...

    @property
    def path(self) -> str:
        """With the query: what follows the authority, `/` at least."""
        ...


class UrlPolicy(Protocol):
    """Which URLs can be targets (G3)."""

    def check_url(self, url: str) -> Url:
        """Where a URL leads, as far as it can be said without resolving its name.

        Raises:
            TargetRefusedError: it can be no target.
        """
        ...
