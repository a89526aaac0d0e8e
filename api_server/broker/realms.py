"""The rules of realms and of the secrets in them.

Who changes a realm decides where secrets are sent: a secret is bound to scheme, host and port of the provider that the
realm named when it was saved, and has to be saved again when that changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.broker.errors import (
    RealmExistsError,
    RealmInvalidError,
    RealmSecretExistsError,
)
from api_server.broker.presets import config_of
from api_server.broker.records import Fetch, Realm, RealmConfigInput, RealmSecret, TokenKey, settings_of
from api_server.broker.requests import MASK, check_config, check_fields, fields_used, provider_of
from api_server.broker.seals import Seals
from api_server.broker.store import BrokerStore, SealedSecret
from api_server.broker.templates import NUMBERED
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError
from api_server.http.routes import Caller
from api_server.leases.interfaces import Leases
from api_server.outbound.policy import TargetPolicy
from common.clock import Clock
from common.ids import TeamId, new_id

__all__ = ["RealmService"]

_ALL = 10_000
"""Secrets of a realm that are looked at when it changes."""


class RealmService:
    """Realms and secrets.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: told of each change.
        leases: of tokens that are fetched.
        seals: for secrets.
        policy: which providers may be named.
        clock: wall time.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        leases: Leases,
        seals: Seals,
        policy: TargetPolicy,
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._leases = leases
        self._seals = seals
        self._policy = policy
        self._clock = clock
        self._store = BrokerStore()

    # Realms

    async def realms_of(
        self, team: TeamId, *, keyword: str, limit: int, offset: int, after: str | None
    ) -> tuple[list[Realm], int]:
        """Realms of a team in the order of their ids, and how many there are."""
        return await self._database.read(
            lambda tx: self._store.realms_of(tx, team, keyword=keyword, limit=limit, offset=offset, after=after)
        )

    async def show(self, team: TeamId, realm: str) -> Realm:
        """A realm.

        Raises:
            RealmNotFoundError: the team has none of that id.
        """
        return await self._database.read(lambda tx: self._store.realm(tx, team, realm))

    async def create(self, caller: Caller, team: TeamId, realm: str, comment: str, given: RealmConfigInput) -> Realm:
        """Make a realm.

        Raises:
            RealmExistsError: the team has one of that id.
            RealmInvalidError: it cannot be used.
            TargetRefusedError: its URL can be no target.
        """
        config = config_of(settings_of(given))
        check_config(config, self._policy)
        now = self._clock.wall()
        made = Realm(
            id=realm,
            team=team,
            comment=comment,
            config=config,
            version=1,
            created_at=now,
            created_by=f"{caller.identity.kind}:{caller.identity.id}",
            updated_at=now,
        )

        async def work(tx: AsyncConnection) -> None:
            await self._store.add_realm(tx, made)
            await self._record(tx, caller, team, "realm.created", ("realm", realm), None, _shown(made))

        try:
            await self._database.write(work)
        except DatabaseConflictError as exc:
            raise RealmExistsError(f"the team has a realm {realm!r} already") from exc
        return made

    async def change(self, caller: Caller, realm: str, *, comment: str | None, given: RealmConfigInput | None) -> Realm:
        """Change a realm; its tokens are fetched anew when that matters to them.

        Raises:
            ForbiddenError: somebody else has made it, and the caller may change their own only.
            RealmInvalidError: it could not be used, or a secret in it lacks what it would refer to.
            RealmNotFoundError: the team has none of that id.
            TargetRefusedError: its URL can be no target.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Realm, Change | None]:
            before = await self._store.realm(tx, caller.team, realm, lock=True)
            _check_may_change(caller, before.creator, Action.REALMS_CHANGE, Action.REALMS_CHANGE_OWN, "realms")
            config = before.config
            if given is not None:
                config = config_of(settings_of(given), before.config)
                check_config(config, self._policy)
            after = msgspec.structs.replace(
                before,
                config=config,
                comment=before.comment if comment is None else comment,
                version=before.version + 1,
                updated_at=now,
            )
            change = None
            if config != before.config:
                await self._check_secrets(tx, after)
                await self._store.change_realm(tx, after)
                await self._store.forget_tokens(tx, caller.team, realm)
                change = await self._changes.record(tx, _changed(caller.team, realm))
            else:
                await self._store.change_realm(tx, after)
            target = ("realm", realm)
            await self._record(tx, caller, caller.team, "realm.changed", target, _shown(before), _shown(after))
            return after, change

        changed, change = await self._database.write(work)
        await self._announce(change)
        return changed

    async def delete(self, caller: Caller, realm: str) -> None:
        """Delete a realm with its secrets and tokens. Tokens that were handed out hold as long as the provider says.

        Raises:
            ForbiddenError: somebody else has made it, and the caller may change their own only.
            RealmNotFoundError: the team has none of that id.
        """

        async def work(tx: AsyncConnection) -> Change:
            found = await self._store.realm(tx, caller.team, realm, lock=True)
            _check_may_change(caller, found.creator, Action.REALMS_CHANGE, Action.REALMS_CHANGE_OWN, "realms")
            for secret in await self._secrets(tx, caller.team, realm):
                await self._leases.forget(tx, TokenKey(caller.team, realm, secret.key).lease)
            await self._store.delete_realms(tx, caller.team, realm)
            change = await self._changes.record(tx, _changed(caller.team, realm))
            await self._record(tx, caller, caller.team, "realm.deleted", ("realm", realm), _shown(found), None)
            return change

        await self._announce(await self._database.write(work))

    async def fetches(
        self, team: TeamId, realm: str, *, key: str | None, limit: int, before: str | None
    ) -> list[Fetch]:
        """Calls to the provider of a realm, the latest first.

        Raises:
            RealmNotFoundError: the team has none of that id.
        """

        async def work(tx: AsyncConnection) -> list[Fetch]:
            await self._store.realm(tx, team, realm)
            return await self._store.fetches_of(tx, team, realm, key=key, limit=limit, before=before)

        return await self._database.read(work)

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:  # noqa: ARG002
        """Implements `TeamEnder`: a team that is deleted has no realm any more."""
        realms, total = await self._store.realms_of(tx, team, keyword="", limit=1, offset=0, after=None)
        if not realms:
            return ()
        await self._store.delete_realms(tx, team, None)
        return [await self._changes.record(tx, _changed(team, realms[0].id if total == 1 else ""))]

    # Secrets

    async def secrets_of(
        self, team: TeamId, realm: str | None, *, limit: int, offset: int, after: str | None
    ) -> tuple[list[RealmSecret], int]:
        """Secrets of a team, or of one of its realms, and how many there are.

        Raises:
            RealmNotFoundError: the team has no realm of that id.
        """

        async def work(tx: AsyncConnection) -> tuple[list[RealmSecret], int]:
            if realm is not None:
                await self._store.realm(tx, team, realm)
            return await self._store.secrets_of(tx, team, realm, limit=limit, offset=offset, after=after)

        return await self._database.read(work)

    async def show_secret(self, team: TeamId, realm: str, key: str) -> RealmSecret:
        """A secret, without its values.

        Raises:
            RealmSecretNotFoundError: there is none.
        """
        found, _ = await self._database.read(lambda tx: self._store.secret(tx, TokenKey(team, realm, key)))
        return found

    async def create_secret(
        self, caller: Caller, key: TokenKey, comment: str, fields: Mapping[str, str]
    ) -> RealmSecret:
        """Keep the keys of an application.

        Raises:
            RealmNotFoundError: the team has no such realm.
            RealmSecretExistsError: the realm has a secret of that key.
            RealmSecretInvalidError: it does not fit the realm.
        """
        now, uid = self._clock.wall(), new_id("sec")

        async def work(tx: AsyncConnection) -> RealmSecret:
            realm = await self._store.realm(tx, key.team, key.realm, lock=True)
            check_fields(realm.config, fields)
            provider = provider_of(realm.config)
            made = RealmSecret(
                realm=key.realm,
                key=key.key,
                team=key.team,
                comment=comment,
                **_masked(fields),
                provider=provider,
                version=1,
                created_at=now,
                created_by=f"{caller.identity.kind}:{caller.identity.id}",
                updated_at=now,
            )
            sealed = self._seals.seal_fields(key, uid, 1, provider, fields)
            await self._store.add_secret(tx, made, SealedSecret(uid, 1, provider, sealed))
            after = {"fields": sorted(fields), "provider": provider}
            await self._record(tx, caller, key.team, "realm_secret.created", _target(key), None, after)
            return made

        try:
            return await self._database.write(work)
        except DatabaseConflictError as exc:
            raise RealmSecretExistsError(f"the realm {key.realm} has a secret {key.key!r} already") from exc

    async def change_secret(
        self, caller: Caller, key: TokenKey, *, comment: str | None, given: Mapping[str, str | None]
    ) -> RealmSecret:
        """Change fields of a secret; None takes one away. Its token is fetched anew.

        Raises:
            ForbiddenError: somebody else has made it, and the caller may change their own only.
            RealmNotFoundError, RealmSecretNotFoundError: there is none.
            RealmSecretInvalidError: it would not fit the realm; where that names another provider by now, all of its
                fields are to be given.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[RealmSecret, Change]:
            realm = await self._store.realm(tx, key.team, key.realm, lock=True)
            before, kept = await self._store.secret(tx, key, lock=True)
            any_of_them, own = Action.REALM_SECRETS_CHANGE, Action.REALM_SECRETS_CHANGE_OWN
            _check_may_change(caller, before.creator, any_of_them, own, "secrets")
            provider = provider_of(realm.config)
            # What was saved for one provider is not sent to another because somebody adds a field.
            values = self._seals.open_fields(key, kept) if kept.provider == provider else {}
            for name, value in given.items():
                if value is None:
                    values.pop(name, None)
                else:
                    values[name] = value
            check_fields(realm.config, values)
            version = kept.version + 1
            after = msgspec.structs.replace(
                before,
                comment=before.comment if comment is None else comment,
                **_masked(values),
                provider=provider,
                version=version,
                updated_at=now,
            )
            sealed = self._seals.seal_fields(key, kept.uid, version, provider, values)
            await self._store.change_secret(tx, after, SealedSecret(kept.uid, version, provider, sealed))
            await self._store.forget_tokens(tx, key.team, key.realm, key.key)
            change = await self._changes.record(tx, _changed(key.team, key.subject))
            changed = {"changed": sorted(given), "provider": provider}
            await self._record(tx, caller, key.team, "realm_secret.changed", _target(key), None, changed)
            return after, change

        secret, change = await self._database.write(work)
        await self._announce(change)
        return secret

    async def delete_secret(self, caller: Caller, key: TokenKey) -> None:
        """Delete a secret and its token.

        Raises:
            ForbiddenError: somebody else has made it, and the caller may change their own only.
            RealmNotFoundError, RealmSecretNotFoundError: there is none.
        """

        async def work(tx: AsyncConnection) -> Change:
            await self._store.realm(tx, key.team, key.realm, lock=True)
            found, _ = await self._store.secret(tx, key, lock=True)
            any_of_them, own = Action.REALM_SECRETS_CHANGE, Action.REALM_SECRETS_CHANGE_OWN
            _check_may_change(caller, found.creator, any_of_them, own, "secrets")
            await self._leases.forget(tx, key.lease)
            await self._store.delete_secret(tx, key)
            change = await self._changes.record(tx, _changed(key.team, key.subject))
            await self._record(tx, caller, key.team, "realm_secret.deleted", _target(key), None, None)
            return change

        await self._announce(await self._database.write(work))

    async def _secrets(self, tx: AsyncConnection, team: TeamId, realm: str) -> list[RealmSecret]:
        found, _ = await self._store.secrets_of(tx, team, realm, limit=_ALL, offset=0, after=None)
        return found

    async def _check_secrets(self, tx: AsyncConnection, realm: Realm) -> None:
        """Whether the secrets of a realm have what it refers to.

        Raises:
            RealmInvalidError: one has not.
        """
        wanted = set(fields_used(realm.config))
        for secret in await self._secrets(tx, realm.team, realm.id):
            has = {name for name in NUMBERED if getattr(secret, name) is not None} | secret.fields.keys()
            if missing := sorted(wanted - has):
                raise RealmInvalidError(
                    f"the secret {secret.key} lacks {', '.join(missing)}; add that first, or delete the secret"
                )

    async def _announce(self, change: Change | None) -> None:
        if change is not None:
            await self._changes.announce([change])

    async def _record(
        self,
        tx: AsyncConnection,
        caller: Caller,
        team: TeamId,
        action: str,
        target: tuple[str, str],
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        await self._audit.record(tx, entry_of(caller, team, action, target, before=before, after=after))


def _check_may_change(caller: Caller, creator: tuple[str, str], any_of_them: Action, own: Action, what: str) -> None:
    if not caller.identity.may_change(any_of_them, own, caller.team, creator):
        raise ForbiddenError(f"{caller.identity.name!r} may change own {what} only")


def _changed(team: TeamId, subject: str) -> Change:
    return Change(topic=Topic.REALMS, team=team, subject=subject)


def _target(key: TokenKey) -> tuple[str, str]:
    return ("realm_secret", key.subject)


def _shown(realm: Realm) -> dict[str, Any]:
    """What the audit log keeps. Constants that somebody has written into a realm may be secrets all the same."""
    config = msgspec.to_builtins(realm.config)
    for argument in config["arguments"]:
        if "$" not in argument["value"]:
            argument["value"] = MASK
    return {"comment": realm.comment, "config": config}


def _masked(fields: Mapping[str, str]) -> dict[str, Any]:
    numbered: dict[str, Any] = {name: MASK if fields.get(name) else None for name in NUMBERED}
    return {**numbered, "fields": {name: MASK for name in sorted(fields) if name not in NUMBERED}}
