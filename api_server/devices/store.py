"""Devices and their credentials in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.devices.records import Credential, CredentialKind, Device
from api_server.devices.tables import credentials, device_labels, devices, pairing_uses
from common.crypto.session_tokens import CredentialId
from common.ids import DeviceId, TeamId

__all__ = ["DeviceStore"]

_SWEPT_AT_ONCE = 500
"""Expired credentials that one issue clears away."""


class DeviceStore:
    """SQL for devices; it decides nothing."""

    __slots__ = ()

    async def find(self, tx: AsyncConnection, team: TeamId, device: str, *, lock: bool = False) -> Device | None:
        """A device of a team, by id or name.

        Args:
            tx: the transaction.
            team: that it must belong to.
            device: its id or its name.
            lock: hold it against other writers until the transaction ends.
        """
        query = select(devices).where(devices.c.team_id == team, or_(devices.c.id == device, devices.c.name == device))
        return await self._one(tx, query, lock=lock)

    async def get(self, tx: AsyncConnection, device: DeviceId, *, lock: bool = False) -> Device | None:
        """A device by its id, whatever its team."""
        return await self._one(tx, select(devices).where(devices.c.id == device), lock=lock)

    async def _one(self, tx: AsyncConnection, query: Select[Any], *, lock: bool) -> Device | None:
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return None if row is None else _device(row, (await self._labels(tx, [row.id])).get(row.id, []))

    async def public_key(self, tx: AsyncConnection, device: DeviceId) -> str | None:
        """The key of a device; None when it has none."""
        return (await tx.execute(select(devices.c.public_key).where(devices.c.id == device))).scalar()

    async def _labels(self, tx: AsyncConnection, ids: Sequence[str]) -> dict[str, list[str]]:
        """The labels of those devices that have any, in order."""
        query = select(device_labels).where(device_labels.c.device_id.in_(ids)).order_by(device_labels.c.label)
        found: dict[str, list[str]] = {}
        for row in await tx.execute(query):
            found.setdefault(row.device_id, []).append(row.label)
        return found

    async def those_of(
        self, tx: AsyncConnection, team: TeamId, *, limit: int, after: str | None, label: str | None = None
    ) -> list[Device]:
        """Devices of a team in the order of their names, at most `limit`; those that have a label, if one is given."""
        query = select(devices).where(devices.c.team_id == team).order_by(devices.c.name).limit(limit)
        if after is not None:
            query = query.where(devices.c.name > after)
        if label is not None:
            query = query.where(
                devices.c.id.in_(
                    select(device_labels.c.device_id).where(
                        device_labels.c.team_id == team, device_labels.c.label == label
                    )
                )
            )
        rows = (await tx.execute(query)).all()
        labels = await self._labels(tx, [row.id for row in rows])
        return [_device(row, labels.get(row.id, [])) for row in rows]

    async def add(self, tx: AsyncConnection, device: Device, public_key: str | None) -> None:
        """Keep a new device.

        Raises:
            IntegrityError: the team has one of that name.
        """
        kind, creator = device.creator
        await tx.execute(
            insert(devices).values(
                id=device.id,
                team_id=device.team,
                name=device.name,
                public_key=public_key,
                created_at=device.created_at,
                created_by_kind=kind,
                created_by=creator,
                services=device.services,
            )
        )
        await self._add_labels(tx, device.team, device.id, device.labels)

    async def _add_labels(self, tx: AsyncConnection, team: TeamId, device: DeviceId, labels: Sequence[str]) -> None:
        if labels:
            rows = [{"device_id": device, "team_id": team, "label": label} for label in labels]
            await tx.execute(insert(device_labels), rows)

    async def set_labels(self, tx: AsyncConnection, team: TeamId, device: DeviceId, labels: Sequence[str]) -> None:
        """Give a device these labels, and no others."""
        await tx.execute(delete(device_labels).where(device_labels.c.device_id == device))
        await self._add_labels(tx, team, device, labels)

    async def change(self, tx: AsyncConnection, device: DeviceId, values: Mapping[str, object]) -> None:
        """Change columns of a device."""
        await tx.execute(update(devices).where(devices.c.id == device).values(**values))

    async def seen(self, tx: AsyncConnection, sightings: Mapping[DeviceId, float]) -> None:
        """Keep when devices were last seen; a later time that is there stays."""
        for device, at in sorted(sightings.items()):
            earlier = devices.c.last_seen_at.is_(None) | (devices.c.last_seen_at < at)
            await tx.execute(update(devices).where(devices.c.id == device, earlier).values(last_seen_at=at))

    async def remove(self, tx: AsyncConnection, device: DeviceId) -> None:
        """Forget a device and its credentials; what they may not do any more is kept elsewhere."""
        await tx.execute(delete(pairing_uses).where(pairing_uses.c.device_id == device))
        await tx.execute(delete(credentials).where(credentials.c.device_id == device))
        await tx.execute(delete(device_labels).where(device_labels.c.device_id == device))
        await tx.execute(delete(devices).where(devices.c.id == device))

    async def add_credential(self, tx: AsyncConnection, credential: Credential, team: TeamId, name: str) -> None:
        """Keep that a session token was issued, in which the device has that name; forget some that have expired."""
        kind, issuer = credential.issued_by.split(":", 1)
        expired = (
            select(credentials.c.id)
            .where(credentials.c.device_id == credential.device, credentials.c.expires_at < credential.issued_at)
            .limit(_SWEPT_AT_ONCE)
        )
        if gone := (await tx.execute(expired)).scalars().all():
            await tx.execute(delete(credentials).where(credentials.c.id.in_(gone)))
        await tx.execute(
            insert(credentials).values(
                id=credential.id,
                device_id=credential.device,
                device_name=name,
                team_id=team,
                kind=credential.kind,
                service=credential.service,
                issued_at=credential.issued_at,
                expires_at=credential.expires_at,
                issued_by_kind=kind,
                issued_by=issuer,
            )
        )

    async def bearer_of(self, tx: AsyncConnection, team: TeamId, name: str, now: float) -> DeviceId | None:
        """A device that still shows that name, because a session token of it that holds says so."""
        query = (
            select(credentials.c.device_id)
            .where(
                credentials.c.team_id == team,
                credentials.c.device_name == name,
                credentials.c.expires_at > now,
                credentials.c.revoked_at.is_(None),
            )
            .limit(1)
        )
        return (await tx.execute(query)).scalar()

    async def live_credentials(self, tx: AsyncConnection, device: DeviceId, now: float) -> list[Credential]:
        """Credentials of a device that have neither expired nor been revoked, the oldest first."""
        query = (
            select(credentials)
            .where(
                credentials.c.device_id == device, credentials.c.expires_at > now, credentials.c.revoked_at.is_(None)
            )
            .order_by(credentials.c.issued_at, credentials.c.id)
        )
        return [_credential(row) for row in await tx.execute(query)]

    async def credential(self, tx: AsyncConnection, device: DeviceId, credential: CredentialId) -> Credential | None:
        """A credential of a device, live or not."""
        query = select(credentials).where(credentials.c.id == credential, credentials.c.device_id == device)
        row = (await tx.execute(query)).first()
        return None if row is None else _credential(row)

    async def mark_revoked(self, tx: AsyncConnection, ids: Sequence[CredentialId], now: float) -> None:
        """Keep that credentials were revoked."""
        await tx.execute(
            update(credentials)
            .where(credentials.c.id.in_(ids), credentials.c.revoked_at.is_(None))
            .values(revoked_at=now)
        )


def _device(row: Row[Any], labels: list[str]) -> Device:
    return Device(
        id=row.id,
        team=row.team_id,
        name=row.name,
        services=row.services,
        labels=labels,
        paired=row.public_key is not None,
        created_at=row.created_at,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        disabled_at=row.disabled_at,
        last_seen_at=row.last_seen_at,
    )


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        id=row.id,
        device=row.device_id,
        kind=CredentialKind(row.kind),
        service=row.service,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        issued_by=f"{row.issued_by_kind}:{row.issued_by}",
        revoked_at=row.revoked_at,
    )
