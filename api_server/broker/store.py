"""SQL of the broker's tables. Every call is part of the transaction that it is given; nothing is decided here.

Locks are taken in one order: lease, realm, secret, token, and then what counts changes and the audit log.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.broker.errors import RealmNotFoundError, RealmSecretNotFoundError
from api_server.broker.records import Fetch, Realm, RealmConfig, RealmSecret, TokenKey
from api_server.broker.requests import MASK
from api_server.broker.tables import realm_fetches, realm_secrets, realm_tokens, realms
from api_server.broker.templates import NUMBERED
from common.ids import TeamId, new_id

__all__ = ["BrokerStore", "SealedSecret", "State", "TokenRow", "new_fetch_id"]

_KEPT: Final = 500
"""Fetches of a realm that are kept."""


def new_fetch_id(now: float) -> str:
    """An id; later ones are greater."""
    return f"fet_{round(now * 1_000_000):014x}{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret as it is kept."""

    uid: str
    version: int
    provider: str
    sealed: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as it is kept, and what is known of the attempts to get the next one."""

    uid: str
    version: int
    sealed: str | None
    token_type: str
    expires_at: float | None
    due_at: float | None
    doubtful_since: float | None
    flushed_at: float | None
    failures: int
    failed_code: str
    failed_detail: str
    retry_at: float | None
    refused_at: float | None


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is known of one token."""

    key: TokenKey
    config: RealmConfig
    realm_version: int
    secret: SealedSecret
    token: TokenRow

    def fresh(self, now: float) -> bool:
        """Whether it need not be fetched."""
        return self.servable(now) and (self.token.due_at is None or now < self.token.due_at)

    def servable(self, now: float) -> bool:
        """Whether it still holds, as far as anybody knows."""
        return self.token.sealed is not None and now < self.servable_until

    @property
    def servable_until(self) -> float:
        """When it ends: at its own end, or earlier, when a call whose outcome nobody knows may have ended it."""
        until = float("inf") if self.token.expires_at is None else self.token.expires_at
        if self.config.overlap is not None and self.token.doubtful_since is not None:
            until = min(until, self.token.doubtful_since + self.config.overlap)
        return until


class BrokerStore:
    """The tables."""

    __slots__ = ()

    # Realms

    async def realm(self, tx: AsyncConnection, team: TeamId, realm: str, *, lock: bool = False) -> Realm:
        """A realm.

        Raises:
            RealmNotFoundError: there is none.
        """
        query = select(realms).where(realms.c.team_id == team, realms.c.id == realm)
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        if row is None:
            raise _no_realm(realm)
        return _realm(row)

    async def realms_of(
        self, tx: AsyncConnection, team: TeamId, *, keyword: str, limit: int, offset: int, after: str | None
    ) -> tuple[list[Realm], int]:
        """Realms of a team in the order of their ids, and how many there are."""
        wanted = [realms.c.team_id == team]
        if keyword:
            wanted.append(or_(*(each.icontains(keyword, autoescape=True) for each in (realms.c.id, realms.c.comment))))
        total = (await tx.execute(select(func.count()).select_from(realms).where(*wanted))).scalar_one()
        if after is not None:
            wanted.append(realms.c.id > after)
        query = select(realms).where(*wanted).order_by(realms.c.id).limit(limit).offset(offset)
        return [_realm(row) for row in await tx.execute(query)], int(total)

    async def add_realm(self, tx: AsyncConnection, realm: Realm) -> None:
        """Keep a new realm."""
        kind, creator = realm.creator
        await tx.execute(
            insert(realms).values(
                team_id=realm.team,
                id=realm.id,
                comment=realm.comment,
                config=msgspec.to_builtins(realm.config),
                version=realm.version,
                created_at=realm.created_at,
                created_by_kind=kind,
                created_by=creator,
                updated_at=realm.updated_at,
            )
        )

    async def change_realm(self, tx: AsyncConnection, realm: Realm) -> None:
        """Keep a realm as it is now."""
        await tx.execute(
            update(realms)
            .where(realms.c.team_id == realm.team, realms.c.id == realm.id)
            .values(
                comment=realm.comment,
                config=msgspec.to_builtins(realm.config),
                version=realm.version,
                updated_at=realm.updated_at,
            )
        )

    async def delete_realms(self, tx: AsyncConnection, team: TeamId, realm: str | None) -> None:
        """Delete a realm of a team, or all of them, with what hangs on it."""
        for table in (realm_fetches, realm_tokens, realm_secrets):
            wanted = table.c.team_id == team
            await tx.execute(delete(table).where(wanted if realm is None else and_(wanted, table.c.realm == realm)))
        wanted = realms.c.team_id == team
        await tx.execute(delete(realms).where(wanted if realm is None else and_(wanted, realms.c.id == realm)))

    # Secrets

    async def secret(
        self, tx: AsyncConnection, key: TokenKey, *, lock: bool = False
    ) -> tuple[RealmSecret, SealedSecret]:
        """A secret, as it is shown and as it is kept.

        Raises:
            RealmSecretNotFoundError: there is none.
        """
        query = select(realm_secrets).where(_of(realm_secrets, key))
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        if row is None:
            raise _no_secret(key)
        return _secret(row), SealedSecret(row.uid, row.version, row.provider, row.sealed)

    async def secrets_of(
        self, tx: AsyncConnection, team: TeamId, realm: str | None, *, limit: int, offset: int, after: str | None
    ) -> tuple[list[RealmSecret], int]:
        """Secrets of a team, or of one realm of it, in the order of realm and key, and how many there are."""
        wanted: list[ColumnElement[bool]] = [realm_secrets.c.team_id == team]
        if realm is not None:
            wanted.append(realm_secrets.c.realm == realm)
        total = (await tx.execute(select(func.count()).select_from(realm_secrets).where(*wanted))).scalar_one()
        if after is not None:
            in_realm, _, key = after.partition("/")
            further = and_(realm_secrets.c.realm == in_realm, realm_secrets.c.key > key)
            wanted.append(or_(realm_secrets.c.realm > in_realm, further))
        order = (realm_secrets.c.realm, realm_secrets.c.key)
        query = select(realm_secrets).where(*wanted).order_by(*order).limit(limit).offset(offset)
        return [_secret(row) for row in await tx.execute(query)], int(total)

    async def add_secret(self, tx: AsyncConnection, secret: RealmSecret, kept: SealedSecret) -> None:
        """Keep a new secret, and a place for its token."""
        kind, creator = secret.creator
        await tx.execute(
            insert(realm_secrets).values(
                team_id=secret.team,
                realm=secret.realm,
                key=secret.key,
                uid=kept.uid,
                comment=secret.comment,
                sealed=kept.sealed,
                names=_names(secret),
                provider=kept.provider,
                version=kept.version,
                created_at=secret.created_at,
                created_by_kind=kind,
                created_by=creator,
                updated_at=secret.updated_at,
            )
        )
        await tx.execute(
            insert(realm_tokens).values(
                team_id=secret.team,
                realm=secret.realm,
                key=secret.key,
                uid=new_id("tok"),
                version=0,
                token_type="",
                failures=0,
                failed_code="",
                failed_detail="",
            )
        )

    async def change_secret(self, tx: AsyncConnection, secret: RealmSecret, kept: SealedSecret) -> None:
        """Keep a secret as it is now."""
        await tx.execute(
            update(realm_secrets)
            .where(_of(realm_secrets, TokenKey(secret.team, secret.realm, secret.key)))
            .values(
                comment=secret.comment,
                sealed=kept.sealed,
                names=_names(secret),
                provider=kept.provider,
                version=kept.version,
                updated_at=secret.updated_at,
            )
        )

    async def delete_secret(self, tx: AsyncConnection, key: TokenKey) -> None:
        """Delete a secret and its token; what was asked of the provider stays in the log of the realm."""
        for table in (realm_tokens, realm_secrets):
            await tx.execute(delete(table).where(_of(table, key)))

    # Tokens

    async def state(self, tx: AsyncConnection, key: TokenKey) -> State:
        """Everything that is known of a token.

        Raises:
            RealmNotFoundError, RealmSecretNotFoundError: there is no such thing.
        """
        query = (
            select(
                realms.c.config,
                realms.c.version.label("realm_version"),
                realm_secrets.c.uid.label("secret_uid"),
                realm_secrets.c.version.label("secret_version"),
                realm_secrets.c.provider,
                realm_secrets.c.sealed.label("secret_sealed"),
                *(realm_tokens.c[name] for name in TokenRow.__slots__),
            )
            .select_from(realms)
            .outerjoin(
                realm_secrets,
                and_(
                    realm_secrets.c.team_id == realms.c.team_id,
                    realm_secrets.c.realm == realms.c.id,
                    realm_secrets.c.key == key.key,
                ),
            )
            .outerjoin(
                realm_tokens,
                and_(
                    realm_tokens.c.team_id == realms.c.team_id,
                    realm_tokens.c.realm == realms.c.id,
                    realm_tokens.c.key == key.key,
                ),
            )
            .where(realms.c.team_id == key.team, realms.c.id == key.realm)
        )
        row = (await tx.execute(query)).first()
        if row is None:
            raise _no_realm(key.realm)
        if row.secret_uid is None or row.uid is None:
            raise _no_secret(key)
        return State(
            key,
            msgspec.convert(row.config, RealmConfig),
            row.realm_version,
            SealedSecret(row.secret_uid, row.secret_version, row.provider, row.secret_sealed),
            TokenRow(**{name: getattr(row, name) for name in TokenRow.__slots__}),
        )

    async def versions(self, tx: AsyncConnection, key: TokenKey) -> tuple[int, str, int] | None:
        """Version of the realm, uid and version of the secret, held against changes until the transaction ends."""
        query = select(realms.c.version).where(realms.c.team_id == key.team, realms.c.id == key.realm)
        realm = (await tx.execute(query.with_for_update(read=True))).first()
        query_of_secret = select(realm_secrets.c.uid, realm_secrets.c.version).where(_of(realm_secrets, key))
        secret = (await tx.execute(query_of_secret.with_for_update(read=True))).first()
        return None if realm is None or secret is None else (realm.version, secret.uid, secret.version)

    async def change_token(self, tx: AsyncConnection, key: TokenKey, values: Mapping[str, object]) -> None:
        """Change columns of a token."""
        await tx.execute(update(realm_tokens).where(_of(realm_tokens, key)).values(**values))

    async def flush(self, tx: AsyncConnection, key: TokenKey, now: float, interval: float) -> bool:
        """Have a token count as ended; False when it was flushed less than `interval` seconds ago."""
        changed = await tx.execute(
            update(realm_tokens)
            .where(
                _of(realm_tokens, key),
                or_(realm_tokens.c.flushed_at.is_(None), realm_tokens.c.flushed_at <= now - interval),
            )
            .values(flushed_at=now, expires_at=now, due_at=now, failures=0, retry_at=None, refused_at=None)
        )
        return bool(changed.rowcount)

    async def forget_tokens(self, tx: AsyncConnection, team: TeamId, realm: str, key: str | None = None) -> None:
        """Realm or secret were changed: tokens, failures and refusals from before mean nothing any more."""
        wanted = [realm_tokens.c.team_id == team, realm_tokens.c.realm == realm]
        if key is not None:
            wanted.append(realm_tokens.c.key == key)
        gone = {"sealed": None, "expires_at": None, "due_at": None, "doubtful_since": None}
        well = {"failures": 0, "failed_code": "", "failed_detail": "", "retry_at": None, "refused_at": None}
        await tx.execute(update(realm_tokens).where(*wanted).values(**gone, **well))

    # Fetches

    async def begin_fetch(self, tx: AsyncConnection, fetch: Fetch, team: TeamId) -> None:
        """Keep that a fetch was begun. One that is still under way, by the log, belongs to a process that died."""
        await tx.execute(
            update(realm_fetches)
            .where(_of(realm_fetches, TokenKey(team, fetch.realm, fetch.key)), realm_fetches.c.outcome == "running")
            .values(
                outcome="unknown",
                ended_at=fetch.started_at,
                detail="the process ended before it could say; the provider may have made a token",
            )
        )
        await tx.execute(insert(realm_fetches).values(team_id=team, **msgspec.structs.asdict(fetch)))

    async def end_fetch(self, tx: AsyncConnection, fetch: Fetch, team: TeamId) -> None:
        """Keep what came of a fetch, and drop the oldest of its realm."""
        values = {name: getattr(fetch, name) for name in ("ended_at", "outcome", "status", "code", "detail")}
        await tx.execute(update(realm_fetches).where(realm_fetches.c.id == fetch.id).values(**values))
        of_realm = and_(realm_fetches.c.team_id == team, realm_fetches.c.realm == fetch.realm)
        query = select(realm_fetches.c.id).where(of_realm).order_by(realm_fetches.c.id.desc()).offset(_KEPT).limit(1)
        if (oldest := (await tx.execute(query)).scalar()) is not None:
            await tx.execute(delete(realm_fetches).where(of_realm, realm_fetches.c.id <= oldest))

    async def fetches_of(
        self, tx: AsyncConnection, team: TeamId, realm: str, *, key: str | None, limit: int, before: str | None
    ) -> list[Fetch]:
        """Fetches of a realm, the latest first."""
        wanted = [realm_fetches.c.team_id == team, realm_fetches.c.realm == realm]
        if key is not None:
            wanted.append(realm_fetches.c.key == key)
        if before is not None:
            wanted.append(realm_fetches.c.id < before)
        query = select(realm_fetches).where(*wanted).order_by(realm_fetches.c.id.desc()).limit(limit)
        fields = Fetch.__struct_fields__
        return [Fetch(**{name: getattr(row, name) for name in fields}) for row in await tx.execute(query)]


def _of(table: Any, key: TokenKey) -> ColumnElement[bool]:
    return and_(table.c.team_id == key.team, table.c.realm == key.realm, table.c.key == key.key)


def _no_realm(realm: str) -> RealmNotFoundError:
    return RealmNotFoundError(f"the team has no realm {realm!r}")


def _no_secret(key: TokenKey) -> RealmSecretNotFoundError:
    return RealmSecretNotFoundError(f"the realm {key.realm} has no secret {key.key!r}")


def _realm(row: Row[Any]) -> Realm:
    return Realm(
        id=row.id,
        team=row.team_id,
        comment=row.comment,
        config=msgspec.convert(row.config, RealmConfig),
        version=row.version,
        created_at=row.created_at,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        updated_at=row.updated_at,
    )


def _names(secret: RealmSecret) -> Sequence[str]:
    return [*(name for name in NUMBERED if getattr(secret, name) is not None), *sorted(secret.fields)]


def _secret(row: Row[Any]) -> RealmSecret:
    return RealmSecret(
        realm=row.realm,
        key=row.key,
        team=row.team_id,
        comment=row.comment,
        **{name: MASK if name in row.names else None for name in NUMBERED},
        fields={name: MASK for name in row.names if name not in NUMBERED},
        provider=row.provider,
        version=row.version,
        created_at=row.created_at,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        updated_at=row.updated_at,
    )
