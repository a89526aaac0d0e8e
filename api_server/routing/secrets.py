"""What services and backends are shown, kept under a name and never shown to anybody else.

A secret is for one destination for as long as it lives. To be used elsewhere it is made anew, by somebody who knows it:
so nobody who may change routes can have it sent to a host of their own (G2).

It is sealed under its id and version (C1), and opened by the gateway when a request needs it.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database, written
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.routing.destinations import (
    device_destination,
    label_destination,
    split_destination,
    url_destination,
)
from api_server.routing.errors import SecretInUseError, SecretNameTakenError, SecretNotFoundError
from api_server.routing.interfaces import DeviceBook, UrlPolicy
from api_server.routing.records import StoredSecret
from api_server.routing.secret_store import SecretStore
from api_server.routing.store import RouteStore
from common.clock import Clock
from common.crypto.envelope import Envelope, SealContext
from common.ids import TeamId, is_name, new_id
from common.secret import Secret

__all__ = ["MAX_SECRET", "UpstreamSecretService", "seal_context"]

MAX_SECRET: Final = 4096
"""Characters."""

_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
"""What can stand in a field of a head: visible ASCII, and blanks within (RFC 9110 section 5.5)."""

_NAMED: Final = 5


def seal_context(team: TeamId, secret: str, name: str, version: int) -> SealContext:
    """What the sealed value of a secret belongs to.

    Args:
        team: whose it is.
        secret: its id.
        name: its name.
        version: of the secret.
    """
    return SealContext(kind="upstream_secret", team=team, owner="", name=name, id=secret, version=version)


class UpstreamSecretService:
    """The rules of upstream secrets.

    Args:
        database: where they are kept.
        audit: gets a line for each change, without the value.
        changes: tells every gateway.
        devices: which there are.
        urls: which can be targets.
        envelope: seals them.
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
        envelope: Envelope,
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._devices = devices
        self._urls = urls
        self._envelope = envelope
        self._clock = clock
        self._store = SecretStore()
        self._routes = RouteStore()

    async def those_of(self, team: TeamId, *, limit: int, after: str | None) -> list[StoredSecret]:
        """Secrets of a team in the order of their names, without their values."""
        return await self._database.read(lambda tx: self._store.those_of(tx, team, limit=limit, after=after))

    async def show(self, team: TeamId, secret: str) -> StoredSecret:
        """A secret, by id or name, without its value.

        Raises:
            SecretNotFoundError: the team has none.
        """
        return _found(await self._database.read(lambda tx: self._store.find(tx, team, secret)))

    async def create(self, caller: Caller, team: TeamId, name: str, destination: str, value: Secret) -> StoredSecret:
        """Keep a secret.

        Raises:
            SecretNameTakenError: the team has one of that name.
            TargetRefusedError, ValidationFailedError: see there.
        """
        if not is_name(name):
            raise ValidationFailedError("body: name must be lower-case letters, digits, single hyphens; at most 40")
        _check_value(value)
        now = self._clock.wall()
        made = StoredSecret(
            id=new_id("ups"),
            name=name,
            team=team,
            destination="",
            version=1,
            created_at=now,
            created_by=f"{caller.identity.kind}:{caller.identity.id}",
            updated_at=now,
        )
        sealed = self._seal(made, value)

        async def work(tx: AsyncConnection) -> StoredSecret:
            if await self._store.find(tx, team, name) is not None:
                raise SecretNameTakenError(f"the team has an upstream secret {name} already")
            kept = msgspec.structs.replace(made, destination=await self._destination(tx, team, destination))
            await self._store.add(tx, kept, sealed)
            after = {"name": name, "destination": kept.destination}
            entry = entry_of(caller, team, "upstream_secret.created", ("upstream_secret", kept.id), after=after)
            await self._audit.record(tx, entry)
            return kept

        return await written(self._database, work)

    async def replace(self, caller: Caller, secret: str, value: Secret) -> StoredSecret:
        """Keep another value of a secret; every gateway shows it from now on.

        Raises:
            ForbiddenError: somebody else has created it, and the caller may change their own only.
            SecretNotFoundError, ValidationFailedError: see there.
        """
        _check_value(value)
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[StoredSecret, list[Change]]:
            before = await self._changeable(tx, caller, secret)
            after = msgspec.structs.replace(before, version=before.version + 1, updated_at=now)
            await self._store.change(tx, after, self._seal(after, value))
            showing = [route for route, _ in await self._routes.showing(tx, after.id)]
            changes = [
                await self._changes.record(tx, Change(topic=Topic.ROUTES, team=after.team, subject=route))
                for route in showing
            ]
            entry = entry_of(
                caller,
                after.team,
                "upstream_secret.replaced",
                ("upstream_secret", after.id),
                before={"version": before.version},
                after={"version": after.version},
            )
            await self._audit.record(tx, entry)
            return after, changes

        after, changes = await self._database.write(work)
        await self._changes.announce(changes)
        return after

    async def delete(self, caller: Caller, secret: str) -> None:
        """Forget a secret.

        Raises:
            ForbiddenError: somebody else has created it, and the caller may change their own only.
            SecretInUseError: routes show it.
            SecretNotFoundError: the team has none of that id or name.
        """

        async def work(tx: AsyncConnection) -> None:
            before = await self._changeable(tx, caller, secret)
            showing = [name for _, name in await self._routes.showing(tx, before.id)]
            if showing:
                more = f" and {len(showing) - _NAMED} more" if len(showing) > _NAMED else ""
                raise SecretInUseError(f"routes show it: {', '.join(showing[:_NAMED])}{more}")
            await self._store.remove(tx, before.id)
            entry = entry_of(
                caller,
                before.team,
                "upstream_secret.deleted",
                ("upstream_secret", before.id),
                before={"name": before.name, "destination": before.destination},
            )
            await self._audit.record(tx, entry)

        await self._database.write(work)

    async def _changeable(self, tx: AsyncConnection, caller: Caller, secret: str) -> StoredSecret:
        """A secret of the caller's team, held against other writers, once it is certain that the caller may change it.

        Raises:
            ForbiddenError, SecretNotFoundError: see there.
        """
        found = _found(await self._store.find(tx, caller.team, secret, lock=True))
        own = Action.UPSTREAM_SECRETS_CHANGE_OWN
        if not caller.identity.may_change(Action.UPSTREAM_SECRETS_CHANGE, own, found.team, found.creator):
            raise ForbiddenError(f"{caller.identity.name!r} may change own upstream secrets only")
        return found

    async def _destination(self, tx: AsyncConnection, team: TeamId, text: str) -> str:
        """A destination in the one spelling in which it is compared.

        Raises:
            TargetRefusedError, ValidationFailedError: it is none.
        """
        parts = split_destination(text)
        if parts is None:
            url = self._urls.check_url(text)
            if "?" in url.path:
                raise ValidationFailedError("body: destination is an origin: https://host[:port]")
            return url_destination(url.scheme, url.authority)
        kind, name, service = parts
        if kind == "label":
            return label_destination(name, service)
        device = await self._devices.id_of(tx, team, name)
        if device is None:
            raise ValidationFailedError(f"body: destination: the team has no device {name}")
        return device_destination(device, service)

    def _seal(self, secret: StoredSecret, value: Secret) -> str:
        context = seal_context(secret.team, secret.id, secret.name, secret.version)
        return self._envelope.seal(value.reveal().encode("ascii"), context)


def _check_value(value: Secret) -> None:
    shown = value.reveal()
    if len(shown) > MAX_SECRET or _VALUE.fullmatch(shown) is None:
        raise ValidationFailedError(
            f"body: value must be visible ASCII, with blanks only within, and at most {MAX_SECRET} characters"
        )


def _found(secret: StoredSecret | None) -> StoredSecret:
    if secret is None:
        raise SecretNotFoundError("the team has no upstream secret of that id or name")
    return secret
