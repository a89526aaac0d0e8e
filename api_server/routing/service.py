"""What may be done with routes.

    create    a path that leads to a device's service, to one of several devices, or to a backend
    change    any part of it, in one step; for a given version only, if one is given
    delete

One gateway serves all teams, so a path is one route's alone, and no team publishes below or above another's path (but
for `/`, which is what nothing else is). That is decided while the number of the topic is held: changes of routes are
committed one after the other. Locks are taken in one order: route, secret, number, audit log.

A route that shows a secret leads to the destination that the secret is for. It is checked here, whenever either is
saved, and once more by the gateway when the secret is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError, TeamNotFoundError
from api_server.auth.interfaces import Action
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database, written
from api_server.gateway.cors import CorsPolicy
from api_server.gateway.errors import BadPathError
from api_server.gateway.fields import FieldKind, kind_of
from api_server.gateway.paths import check_path
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.routing.destinations import device_destination, label_destination, url_destination
from api_server.routing.errors import (
    RouteChangedError,
    RouteNameTakenError,
    RouteNotFoundError,
    RoutePathTakenError,
    SecretElsewhereError,
    SecretNotFoundError,
)
from api_server.routing.interfaces import DeviceBook, UrlPolicy
from api_server.routing.prefixes import normal_prefix
from api_server.routing.records import (
    AuthKind,
    HealthCheck,
    RouteTarget,
    StoredRoute,
    UpstreamAuth,
    UrlTarget,
)
from api_server.routing.secret_store import SecretStore
from api_server.routing.store import RouteStore
from common.clock import Clock
from common.ids import TeamId, is_name, new_id

__all__ = ["NewRouteValues", "RouteService"]

_NO_ROUTE: Final = "the team has no route of that id or name"

_MAX_TAGS: Final = 20

_HEADER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", re.ASCII)
"""A field name without what CGI cannot tell from a hyphen (RFC 9110 section 5.1)."""

_CREDENTIALS: Final = frozenset({FieldKind.PLAIN, FieldKind.CREDENTIAL})
"""Kinds of fields that can carry a credential; all others mean something on the way."""


class NewRouteValues(msgspec.Struct, frozen=True, kw_only=True):
    """What a route is made of, as it was asked for."""

    name: str
    path: str
    target: RouteTarget
    tags: list[str] = []
    auth: UpstreamAuth = UpstreamAuth(kind=AuthKind.NONE)
    strip_prefix: bool = True
    health: HealthCheck | None = None
    cors: CorsPolicy | None = None
    inspect: bool = False


class RouteService:
    """The rules of routes.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: tells every gateway.
        devices: which there are.
        urls: which can be targets.
        clock: wall time.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        devices: DeviceBook,
        urls: UrlPolicy,
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._devices = devices
        self._urls = urls
        self._clock = clock
        self._store = RouteStore()
        self._secrets = SecretStore()

    async def those_of(self, team: TeamId, *, limit: int, after: str | None) -> list[StoredRoute]:
        """Routes of a team in the order of their names."""
        return await self._database.read(lambda tx: self._store.those_of(tx, team, limit=limit, after=after))

    async def show(self, team: TeamId, route: str) -> StoredRoute:
        """A route, by id or name.

        Raises:
            RouteNotFoundError: the team has none.
        """
        return _found(await self._database.read(lambda tx: self._store.find(tx, team, route)))

    async def create(self, caller: Caller, team: TeamId, values: NewRouteValues) -> StoredRoute:
        """Publish something.

        Raises:
            ForbiddenError: it would show a token of a provider, which the caller may not have.
            RouteNameTakenError, RoutePathTakenError, SecretElsewhereError, SecretNotFoundError, TargetRefusedError,
            ValidationFailedError: see there.
        """
        _check_may_show(caller, team, values.auth)
        now = self._clock.wall()
        made = StoredRoute(
            id=new_id("rte"),
            team=team,
            version=1,
            created_at=now,
            created_by=f"{caller.identity.kind}:{caller.identity.id}",
            updated_at=now,
            **_fields(_checked(values)),
        )

        async def work(tx: AsyncConnection) -> Change:
            await self._check_free(tx, made)
            await self._store.add(tx, made, await self._columns(tx, made))
            if not await self._store.team_lives(tx, team):
                raise TeamNotFoundError("the team has been deleted")
            change = await self._record(tx, made)
            await self._check_free(tx, made)
            entry = entry_of(caller, team, "route.created", ("route", made.id), after=_told(made))
            await self._audit.record(tx, entry)
            return change

        await self._changes.announce([await written(self._database, work)])
        return made

    async def change(
        self, caller: Caller, route: str, changes: dict[str, Any], *, version: int | None = None
    ) -> StoredRoute:
        """Change parts of a route; all of them, or none.

        Args:
            caller: who asks.
            route: id or name.
            changes: fields of `NewRouteValues` that get another value.
            version: that the route must have; None for any.

        Raises:
            ForbiddenError: it would show a token of a provider, which the caller may not have.
            RouteChangedError: it has another version.
            RouteNameTakenError, RouteNotFoundError, RoutePathTakenError, SecretElsewhereError, SecretNotFoundError,
            TargetRefusedError, ValidationFailedError: see there.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[StoredRoute, list[Change]]:
            before = await self._held(tx, caller.team, route, version)
            wanted = _checked(msgspec.structs.replace(_values(before), **changes))
            after = msgspec.structs.replace(before, **_fields(wanted))
            if after == before:
                return before, []
            # A token of a provider goes where somebody sends it who may have it.
            _check_may_show(caller, after.team, after.auth)
            after = msgspec.structs.replace(after, version=before.version + 1, updated_at=now)
            await self._check_free(tx, after)
            # A target that stays leads where it led, even if another device has taken the name meanwhile.
            kept = None if after.target != before.target else await self._store.destination_of(tx, after.id)
            await self._store.change(tx, after, await self._columns(tx, after, kept))
            change = await self._record(tx, after)
            await self._check_free(tx, after)
            entry = entry_of(
                caller, after.team, "route.changed", ("route", after.id), before=_told(before), after=_told(after)
            )
            await self._audit.record(tx, entry)
            return after, [change]

        after, announced = await written(self._database, work)
        await self._changes.announce(announced)
        return after

    async def delete(self, caller: Caller, route: str, *, version: int | None = None) -> None:
        """Take a route out.

        Raises:
            RouteChangedError: it has another version.
            RouteNotFoundError: the team has none of that id or name.
        """

        async def work(tx: AsyncConnection) -> Change:
            before = await self._held(tx, caller.team, route, version)
            await self._store.remove(tx, before.id)
            change = await self._record(tx, before)
            entry = entry_of(caller, before.team, "route.deleted", ("route", before.id), before=_told(before))
            await self._audit.record(tx, entry)
            return change

        await self._changes.announce([await self._database.write(work)])

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:  # noqa: ARG002
        """Take out all that a team has published, with its secrets. Implements `TeamEnder`."""
        gone = await self._store.remove_all_of(tx, team)
        await self._secrets.remove_all_of(tx, team)
        if not gone:
            return []
        return [await self._changes.record(tx, Change(topic=Topic.ROUTES, team=team, subject=_subject(gone)))]

    async def _held(self, tx: AsyncConnection, team: TeamId, route: str, version: int | None) -> StoredRoute:
        """A route, held against other writers.

        Raises:
            RouteChangedError: it has another version.
            RouteNotFoundError: the team has none of that id or name.
        """
        await self._store.lock(tx, team, route)
        found = _found(await self._store.find(tx, team, route))
        if version is not None and version != found.version:
            raise RouteChangedError(f"the route has version {found.version} now; read it again")
        return found

    async def _record(self, tx: AsyncConnection, route: StoredRoute) -> Change:
        """Count a change; from here until the transaction ends it is the only one of any route."""
        return await self._changes.record(tx, Change(topic=Topic.ROUTES, team=route.team, subject=route.id))

    async def _check_free(self, tx: AsyncConnection, route: StoredRoute) -> None:
        """Whether name and path are to be had; for certain, once the change is counted.

        Raises:
            RouteNameTakenError, RoutePathTakenError: see there.
        """
        named = await self._store.find(tx, route.team, route.name)
        if named is not None and named.id != route.id:
            raise RouteNameTakenError(f"the team has a route {route.name} already")
        there = await self._store.at(tx, route.path)
        if there is not None and there.id != route.id:
            owner = f"the route {there.name}" if there.team == route.team else "another team"
            raise RoutePathTakenError(f"{route.path} belongs to {owner}")
        if await self._store.has_strangers(tx, route.team, route.path):
            raise RoutePathTakenError(f"another team has a route below or above {route.path}")

    async def _columns(
        self, tx: AsyncConnection, route: StoredRoute, kept: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What is kept of a route beside what it says.

        Args:
            tx: the transaction.
            route: the route.
            kept: where its target led when it was saved; None for a new one.
        """
        found = await self._destination(tx, route) if kept is None else kept
        return {**found, "secret_id": await self._secret(tx, route, found["destination"])}

    async def _destination(self, tx: AsyncConnection, route: StoredRoute) -> dict[str, Any]:
        target = route.target
        device_id = label = None
        if isinstance(target, UrlTarget):
            url = self._urls.check_url(target.url)
            _check_path(url.path, "target.url")
            destination = url_destination(url.scheme, url.authority)
        elif target.device is not None:
            device_id = await self._devices.id_of(tx, route.team, target.device)
            if device_id is None:
                raise ValidationFailedError(f"body: the team has no device {target.device}")
            destination = device_destination(device_id, target.service)
        else:
            label = target.label
            assert label is not None
            destination = label_destination(label, target.service)
        return {"device_id": device_id, "label": label, "destination": destination}

    async def _secret(self, tx: AsyncConnection, route: StoredRoute, destination: str) -> str | None:
        """The id of the secret that a route shows.

        Raises:
            SecretElsewhereError: it is for another destination (G2).
            SecretNotFoundError: the team has none of that name.
        """
        if route.auth.secret is None:
            return None
        secret = await self._secrets.find(tx, route.team, route.auth.secret, lock=True)
        if secret is None:
            raise SecretNotFoundError(f"the team has no upstream secret {route.auth.secret}")
        if secret.destination != destination:
            raise SecretElsewhereError(f"the secret {secret.name} is for {secret.destination}, not for {destination}")
        return secret.id


def _subject(ids: Sequence[str]) -> str:
    """What a change of these is about: the one, or more than one."""
    return ids[0] if len(ids) == 1 else ""


def _checked(values: NewRouteValues) -> NewRouteValues:
    """What was asked for, in the form in which it is kept, if it can be a route.

    Raises:
        ValidationFailedError: it cannot.
    """
    if not is_name(values.name):
        raise ValidationFailedError("body: name must be lower-case letters, digits, single hyphens; at most 40")
    tags = sorted(set(values.tags))
    if len(tags) > _MAX_TAGS or not all(map(is_name, tags)):
        raise ValidationFailedError(
            f"body: tags must be lower-case letters, digits, single hyphens; at most 40, and {_MAX_TAGS} of them"
        )
    _check_target(values.target, values.health)
    _check_auth(values.auth)
    return msgspec.structs.replace(values, path=normal_prefix(values.path), tags=tags)


def _check_target(target: RouteTarget, health: HealthCheck | None) -> None:
    label = None
    if isinstance(target, UrlTarget):
        if "?" in target.url:
            raise ValidationFailedError("body: target.url has no query; that of the request goes on")
    else:
        label = target.label
        if (target.device is None) == (label is None):
            raise ValidationFailedError("body: target names a device or a label")
        if not all(is_name(each) for each in (target.service, target.device, label) if each is not None):
            raise ValidationFailedError(
                "body: target: names are lower-case letters, digits, single hyphens; at most 40"
            )
    if health is None:
        return
    if label is None:
        raise ValidationFailedError("body: health is for a route to the devices of a label, of which one is chosen")
    _check_path(health.path, "health.path")


def _check_path(path: str, field: str) -> None:
    """Whether it is a path that everybody reads alike."""
    try:
        check_path(path.encode("ascii"))
    except (BadPathError, UnicodeEncodeError) as exc:
        detail = exc.detail if isinstance(exc, BadPathError) else "it is not ASCII"
        raise ValidationFailedError(f"body: {field} has a path that cannot be one: {detail}") from exc


def _check_auth(auth: UpstreamAuth) -> None:
    if (auth.realm is None) != (auth.key is None):
        raise ValidationFailedError("body: auth names a realm and a key in it, or neither")
    if auth.realm is not None and (auth.kind is not AuthKind.BEARER or auth.secret is not None):
        raise ValidationFailedError("body: auth.realm is for the kind bearer, in place of a secret")
    if (auth.secret is None and auth.realm is None) != (auth.kind is AuthKind.NONE):
        raise ValidationFailedError("body: auth names a secret, or a realm, unless its kind is none")
    if auth.header is not None:
        if auth.kind is not AuthKind.API_KEY:
            raise ValidationFailedError("body: auth.header is for the kind api-key")
        if _HEADER.fullmatch(auth.header) is None or kind_of(auth.header.encode("ascii")) not in _CREDENTIALS:
            raise ValidationFailedError("body: auth.header can carry no key")
    if auth.username is not None:
        if auth.kind is not AuthKind.BASIC:
            raise ValidationFailedError("body: auth.username is for the kind basic")
        if ":" in auth.username or not auth.username.isprintable():
            raise ValidationFailedError("body: auth.username has no colon (RFC 7617 section 2)")


def _check_may_show(caller: Caller, team: TeamId, auth: UpstreamAuth) -> None:
    """Whether the caller may have the token of a provider that a route shows.

    Raises:
        ForbiddenError: they may not.
    """
    if auth.realm is not None and not caller.identity.may(Action.REALM_TOKENS_GET, team):
        raise ForbiddenError(f"{caller.identity.name!r} may not do {Action.REALM_TOKENS_GET.value}")


def _values(route: StoredRoute) -> NewRouteValues:
    return NewRouteValues(**{name: getattr(route, name) for name in NewRouteValues.__struct_fields__})


def _fields(values: NewRouteValues) -> dict[str, Any]:
    return {name: getattr(values, name) for name in NewRouteValues.__struct_fields__}


def _told(route: StoredRoute) -> dict[str, Any]:
    """What the audit log says of a route; the secret is there by its name."""
    told: dict[str, Any] = msgspec.to_builtins(_values(route))
    return told


def _found(route: StoredRoute | None) -> StoredRoute:
    if route is None:
        raise RouteNotFoundError(_NO_ROUTE)
    return route
