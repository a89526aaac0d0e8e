"""Which devices there are, for other domains. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.devices.tables import device_labels, devices
from common.ids import TeamId

__all__ = ["DeviceBook"]

_AT_ONCE = 500
"""Names or ids in one statement."""


class DeviceBook:
    """Looks devices up."""

    __slots__ = ()

    async def id_of(self, tx: AsyncConnection, team: TeamId, device: str) -> str | None:
        """The id of a device of a team, by its id or name; None when there is none."""
        query = select(devices.c.id).where(
            devices.c.team_id == team, or_(devices.c.id == device, devices.c.name == device)
        )
        return (await tx.execute(query)).scalar()

    async def names_of(self, tx: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
        """The names of those of the devices that there are, by their ids."""
        wanted = sorted(ids)
        found: dict[str, str] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            query = select(devices.c.id, devices.c.name).where(devices.c.id.in_(wanted[start : start + _AT_ONCE]))
            found |= {row.id: row.name for row in await tx.execute(query)}
        return found

    async def labelled(self, tx: AsyncConnection, labels: Collection[str]) -> dict[tuple[TeamId, str], tuple[str, ...]]:
        """Ids of the devices that have one of these labels, in order, by their team and the label."""
        wanted = sorted(set(labels))
        found: dict[tuple[TeamId, str], list[str]] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            query = (
                select(device_labels)
                .where(device_labels.c.label.in_(wanted[start : start + _AT_ONCE]))
                .order_by(device_labels.c.device_id)
            )
            for row in await tx.execute(query):
                found.setdefault((row.team_id, row.label), []).append(row.device_id)
        return {key: tuple(ids) for key, ids in found.items()}
