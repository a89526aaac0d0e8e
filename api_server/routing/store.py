"""Routes in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, Select, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.devices.tables import devices
from api_server.gateway.cors import CorsPolicy
from api_server.routing.prefixes import ancestors
from api_server.routing.records import HealthCheck, RouteTarget, StoredRoute, UpstreamAuth, UrlTarget
from api_server.routing.tables import routes, upstream_secrets
from api_server.teams.tables import teams
from common.ids import TeamId, is_device_id

__all__ = ["RouteStore", "TableRow"]

_AT_ONCE = 500
"""Ids in one statement."""


class TableRow(msgspec.Struct, frozen=True, kw_only=True):
    """A route as a gateway needs it, with what it shows, still sealed."""

    route: StoredRoute
    device_id: str | None
    label: str | None
    destination: str
    secret_id: str | None
    secret_name: str | None
    secret_destination: str | None
    secret_value: str | None
    secret_version: int | None


class RouteStore:
    """SQL for routes; it decides nothing."""

    __slots__ = ()

    async def find(self, tx: AsyncConnection, team: TeamId, route: str) -> StoredRoute | None:
        """A route of a team, by id or name."""
        query = _NAMED.where(routes.c.team_id == team, or_(routes.c.id == route, routes.c.name == route))
        row = (await tx.execute(query)).first()
        return None if row is None else _route(row)

    async def lock(self, tx: AsyncConnection, team: TeamId, route: str) -> None:
        """Hold a route against other writers until the transaction ends; it must be read after this."""
        query = select(routes.c.id).where(routes.c.team_id == team, or_(routes.c.id == route, routes.c.name == route))
        await tx.execute(query.with_for_update())

    async def team_lives(self, tx: AsyncConnection, team: TeamId) -> bool:
        """Whether a team of which the transaction has written a row has not been deleted."""
        return (
            await tx.execute(select(teams.c.id).where(teams.c.id == team, teams.c.deleted_at.is_(None)))
        ).first() is not None

    async def those_of(self, tx: AsyncConnection, team: TeamId, *, limit: int, after: str | None) -> list[StoredRoute]:
        """Routes of a team in the order of their names, at most `limit`."""
        query = _NAMED.where(routes.c.team_id == team).order_by(routes.c.name).limit(limit)
        if after is not None:
            query = query.where(routes.c.name > after)
        return [_route(row) for row in await tx.execute(query)]

    async def at(self, tx: AsyncConnection, path: str) -> StoredRoute | None:
        """The route with that very prefix, whatever its team."""
        row = (await tx.execute(_NAMED.where(routes.c.path == path))).first()
        return None if row is None else _route(row)

    async def has_strangers(self, tx: AsyncConnection, team: TeamId, path: str) -> bool:
        """Whether a route of another team lies below the prefix, or above it; `/`, above all, does not count."""
        if path == "/":
            return False
        # '0' is what follows '/' in the order of code points.
        below = and_(routes.c.path >= f"{path}/", routes.c.path < f"{path}0")
        above = routes.c.path.in_(ancestors(path))
        query = select(routes.c.id).where(routes.c.team_id != team, or_(below, above)).limit(1)
        return (await tx.execute(query)).first() is not None

    async def destination_of(self, tx: AsyncConnection, route: str) -> dict[str, Any]:
        """`device_id`, `label` and `destination` of a route, by its id."""
        query = select(routes.c.device_id, routes.c.label, routes.c.destination).where(routes.c.id == route)
        return dict((await tx.execute(query)).one()._mapping)

    async def add(self, tx: AsyncConnection, route: StoredRoute, columns: Mapping[str, Any]) -> None:
        """Keep a new route.

        Args:
            tx: the transaction.
            route: the route.
            columns: `device_id`, `label`, `destination` and `secret_id`.

        Raises:
            IntegrityError: there is one of its path, or the team has one of its name.
        """
        kind, _, creator = route.created_by.partition(":")
        await tx.execute(
            insert(routes).values(
                id=route.id,
                team_id=route.team,
                created_at=route.created_at,
                created_by_kind=kind,
                created_by=creator,
                **_columns(route),
                **columns,
            )
        )

    async def change(self, tx: AsyncConnection, route: StoredRoute, columns: Mapping[str, Any]) -> None:
        """Put a route in the place of the one with its id; the columns are as with `add`.

        Raises:
            IntegrityError: as with `add`.
        """
        await tx.execute(update(routes).where(routes.c.id == route.id).values(**_columns(route), **columns))

    async def remove(self, tx: AsyncConnection, route: str) -> None:
        """Forget a route, by its id."""
        await tx.execute(delete(routes).where(routes.c.id == route))

    async def remove_all_of(self, tx: AsyncConnection, team: TeamId) -> list[str]:
        """Forget all routes of a team; returns their ids."""
        ids = list((await tx.execute(select(routes.c.id).where(routes.c.team_id == team))).scalars())
        await tx.execute(delete(routes).where(routes.c.team_id == team))
        return ids

    async def showing(self, tx: AsyncConnection, secret: str) -> list[tuple[str, str]]:
        """Ids and names of the routes that show a secret."""
        query = select(routes.c.id, routes.c.name).where(routes.c.secret_id == secret).order_by(routes.c.name)
        return [(row.id, row.name) for row in await tx.execute(query)]

    async def labelled(self, tx: AsyncConnection, team: TeamId, labels: Collection[str]) -> list[str]:
        """Ids of the routes that lead to devices with one of these labels."""
        query = select(routes.c.id).where(routes.c.team_id == team, routes.c.label.in_(sorted(labels)))
        return list((await tx.execute(query)).scalars())

    # For gateways

    async def versions(self, tx: AsyncConnection) -> dict[str, tuple[int, int]]:
        """The versions of every route there is and of the secret that it shows (0 for none), by the route's id."""
        query = select(routes.c.id, routes.c.version, upstream_secrets.c.version.label("secret_version")).select_from(
            routes.outerjoin(upstream_secrets, routes.c.secret_id == upstream_secrets.c.id)
        )
        return {row.id: (row.version, row.secret_version or 0) for row in await tx.execute(query)}

    async def rows(self, tx: AsyncConnection, ids: Sequence[str]) -> list[TableRow]:
        """Those of the routes with these ids that there are."""
        found: list[TableRow] = []
        for start in range(0, len(ids), _AT_ONCE):
            query = _joined().where(routes.c.id.in_(ids[start : start + _AT_ONCE]))
            found += [_table_row(row) for row in await tx.execute(query)]
        return found


_NAMED: Final = select(routes, devices.c.name.label("device_name")).select_from(
    routes.outerjoin(devices, routes.c.device_id == devices.c.id)
)
"""Routes, with the names that their devices have now."""


def _joined() -> Select[Any]:
    return select(
        routes,
        devices.c.name.label("device_name"),
        upstream_secrets.c.name.label("secret_name"),
        upstream_secrets.c.destination.label("secret_destination"),
        upstream_secrets.c.value.label("secret_value"),
        upstream_secrets.c.version.label("secret_version"),
    ).select_from(
        routes.outerjoin(devices, routes.c.device_id == devices.c.id).outerjoin(
            upstream_secrets, routes.c.secret_id == upstream_secrets.c.id
        )
    )


def _table_row(row: Row[Any]) -> TableRow:
    return TableRow(
        route=_route(row),
        device_id=row.device_id,
        label=row.label,
        destination=row.destination,
        secret_id=row.secret_id,
        secret_name=row.secret_name,
        secret_destination=row.secret_destination,
        secret_value=row.secret_value,
        secret_version=row.secret_version,
    )


def _columns(route: StoredRoute) -> dict[str, Any]:
    """What a change can change."""
    return {
        "name": route.name,
        "path": route.path,
        "target": msgspec.to_builtins(route.target),
        "tags": route.tags,
        "auth": msgspec.to_builtins(route.auth),
        "strip_prefix": route.strip_prefix,
        "health": None if route.health is None else msgspec.to_builtins(route.health),
        "cors": None if route.cors is None else msgspec.to_builtins(route.cors),
        "inspect": route.inspect,
        "version": route.version,
        "updated_at": route.updated_at,
    }


def _target(row: Row[Any]) -> RouteTarget:
    """The target as it was saved; a device that has been renamed since then has its new name."""
    target: RouteTarget = msgspec.convert(row.target, RouteTarget)
    if isinstance(target, UrlTarget) or target.device is None or row.device_name is None or is_device_id(target.device):
        return target
    return msgspec.structs.replace(target, device=row.device_name)


def _route(row: Row[Any]) -> StoredRoute:
    return StoredRoute(
        id=row.id,
        name=row.name,
        team=row.team_id,
        path=row.path,
        target=_target(row),
        tags=row.tags,
        auth=msgspec.convert(row.auth, UpstreamAuth),
        strip_prefix=row.strip_prefix,
        health=None if row.health is None else msgspec.convert(row.health, HealthCheck),
        cors=None if row.cors is None else msgspec.convert(row.cors, CorsPolicy),
        inspect=row.inspect,
        version=row.version,
        created_at=row.created_at,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        updated_at=row.updated_at,
    )
