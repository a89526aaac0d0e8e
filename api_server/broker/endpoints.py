"""`/api/realm` and `/api/secret`: how tokens are had from providers, and with what.

The shapes of lists (`data.list`, `data.total`, `success`, `page`, `pageSize`) are those that programs of other brokers
know; `limit`, `cursor` and `next` are beside them, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.broker.dry_run import DryRun, DryRunRequest, dry_run
from api_server.broker.errors import (
    RealmExistsError,
    RealmInvalidError,
    RealmNotFoundError,
    RealmSecretExistsError,
    RealmSecretInvalidError,
    RealmSecretNotFoundError,
)
from api_server.broker.realms import RealmService
from api_server.broker.records import Fetch, Realm, RealmConfigInput, RealmSecret, TokenKey
from api_server.broker.templates import NUMBERED
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from api_server.outbound.errors import TargetRefusedError
from common.clock import Clock

__all__ = ["BrokerEndpoints", "Name"]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Of a realm, or of a secret in it."""

_Comment = Annotated[str, Meta(max_length=1000)]
_Field = Annotated[str, Meta(min_length=1, max_length=16384)]
_Team = Annotated[str, Meta(max_length=100)]


class RealmPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a realm."""

    id: Annotated[str, Meta(description="Id of the realm.")]


class SecretPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a secret."""

    realm: Annotated[str, Meta(description="Id of the realm.")]
    key: Annotated[str, Meta(description="Key of the secret.")]


class PagedQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of a list that has pages by number, too."""

    page: Annotated[int, Meta(ge=1, le=100_000, description="Number of the page, from 1; `cursor` goes before it.")] = 1
    pageSize: Annotated[  # noqa: N815  the name that programs know
        int, Meta(ge=0, le=1000, description="Most items of a page, in place of `limit`; 0 for what that says.")
    ] = 0


class RealmQuery(PagedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of the list of realms."""

    keyword: Annotated[str, Meta(max_length=200, description="Part of an id or comment.")] = ""


class SecretQuery(PagedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of the list of secrets."""

    realm: Annotated[str | None, Meta(description="Of this realm alone.")] = None


class FetchQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of the log of fetches."""

    key: Annotated[str | None, Meta(description="Of this secret alone.")] = None


class NewRealm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A realm to be made."""

    id: Name
    """Letters, digits, `.`, `_`, `-`; at most 64. It never changes."""
    team: _Team | None = None
    """May be left out by who belongs to exactly one."""
    comment: _Comment = ""
    config: RealmConfigInput


class RealmChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a realm; what is left out stays."""

    comment: _Comment | UnsetType = UNSET
    config: RealmConfigInput | UnsetType = UNSET


class NewSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of an application."""

    realm: Name
    key: Name
    """Names the secret in its realm. It never changes."""
    team: _Team | None = None
    """May be left out by who belongs to exactly one."""
    comment: _Comment = ""
    key_1: _Field | None = None
    key_2: _Field | None = None
    key_3: _Field | None = None
    key_4: _Field | None = None
    key_5: _Field | None = None
    fields: Annotated[dict[str, _Field], Meta(max_length=32)] = {}
    """Those with names of their own, which the realm lists."""


class SecretChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a secret; what is left out stays, null takes a field away."""

    comment: _Comment | UnsetType = UNSET
    key_1: _Field | UnsetType | None = UNSET
    key_2: _Field | UnsetType | None = UNSET
    key_3: _Field | UnsetType | None = UNSET
    key_4: _Field | UnsetType | None = UNSET
    key_5: _Field | UnsetType | None = UNSET
    fields: Annotated[dict[str, _Field | None], Meta(max_length=32)] = {}


class RealmList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of realms."""

    list: Sequence[Realm]
    total: int
    """Of all pages."""


class SecretList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of secrets."""

    list: Sequence[RealmSecret]
    total: int
    """Of all pages."""


class RealmPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of realms, in the order of their ids."""

    data: RealmList
    next: str | None
    success: Literal["ok"] = "ok"


class SecretPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of secrets, in the order of realm and key."""

    data: SecretList
    next: str | None
    success: Literal["ok"] = "ok"


class FetchPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of calls to a provider, the latest first."""

    items: list[Fetch]
    next: str | None


class BrokerEndpoints:
    """Serves `/api/realm` and `/api/secret`.

    Args:
        realms: the rules.
        clock: wall time.
    """

    def __init__(self, realms: RealmService, clock: Clock) -> None:
        self._realms = realms
        self._clock = clock

    def routes(self) -> list[Route]:
        """The endpoints."""
        away, missing = DatabaseUnavailableError, RealmNotFoundError
        wrong = (RealmInvalidError, TargetRefusedError)
        no_secret = (missing, RealmSecretNotFoundError, away)
        realms, realm, secrets, secret = "/api/realm", "/api/realm/{id}", "/api/secret", "/api/secret/{realm}/{key}"
        return [
            _get(realms, self.list_realms, Action.REALMS_READ, away),
            _post(realms, self.create_realm, Action.REALMS_CREATE, RealmExistsError, *wrong, away, every_team=True),
            _get(realm, self.show_realm, Action.REALMS_READ, missing, away),
            _change("PATCH", realm, self.change_realm, Action.REALMS_CHANGE_OWN, *wrong, missing, away),
            _change("DELETE", realm, self.delete_realm, Action.REALMS_CHANGE_OWN, missing, away, status=204),
            _get(f"{realm}/fetches", self.list_fetches, Action.REALMS_READ, missing, away),
            _post(f"{realm}/test", self.test_realm, Action.REALMS_CREATE, missing, away, status=200),
            _get(secrets, self.list_secrets, Action.REALM_SECRETS_READ, missing, away),
            _post(
                secrets,
                self.create_secret,
                Action.REALM_SECRETS_CREATE,
                missing,
                RealmSecretExistsError,
                RealmSecretInvalidError,
                away,
                every_team=True,
            ),
            _get(secret, self.show_secret, Action.REALM_SECRETS_READ, *no_secret),
            _change(
                "PATCH",
                secret,
                self.change_secret,
                Action.REALM_SECRETS_CHANGE_OWN,
                RealmSecretInvalidError,
                *no_secret,
            ),
            _change("DELETE", secret, self.delete_secret, Action.REALM_SECRETS_CHANGE_OWN, *no_secret, status=204),
        ]

    async def list_realms(self, caller: Caller, query: RealmQuery) -> RealmPage:
        """List the realms of a team."""
        limit, offset = _window(query)
        found, total = await self._realms.realms_of(
            caller.team, keyword=query.keyword, limit=limit + 1, offset=offset, after=query.cursor
        )
        items, cursor = cut_page(found, limit, lambda each: each.id)
        return RealmPage(data=RealmList(list=items, total=total), next=cursor)

    async def create_realm(self, caller: Caller, body: NewRealm) -> Realm:
        """Make a realm: how a token is had from a provider.

        A preset has values for what is left out. What is secret belongs into a secret of the realm, and is referred to:
        `$key_1`.
        """
        team = chosen_team(caller, Action.REALMS_CREATE, body.team)
        return await self._realms.create(caller, team, body.id, body.comment, body.config)

    async def show_realm(self, caller: Caller, path: RealmPath, query: TeamQuery) -> Realm:  # noqa: ARG002
        """Show a realm."""
        return await self._realms.show(caller.team, path.id)

    async def change_realm(
        self,
        caller: Caller,
        path: RealmPath,
        query: TeamQuery,  # noqa: ARG002
        body: RealmChange,
    ) -> Realm:
        """Change a realm.

        Its tokens are fetched anew. When it names another host from now on, its secrets have to be saved again before
        they are sent there.
        """
        return await self._realms.change(
            caller,
            path.id,
            comment=None if body.comment is UNSET else body.comment,
            given=None if body.config is UNSET else body.config,
        )

    async def delete_realm(self, caller: Caller, path: RealmPath, query: TeamQuery) -> None:  # noqa: ARG002
        """Delete a realm, with its secrets and tokens.

        Tokens that were handed out hold for as long as the provider says.
        """
        await self._realms.delete(caller, path.id)

    async def list_fetches(self, caller: Caller, path: RealmPath, query: FetchQuery) -> FetchPage:
        """List what was asked of the provider of a realm, and what came of it; the last 500."""
        found = await self._realms.fetches(
            caller.team, path.id, key=query.key, limit=query.limit + 1, before=query.cursor
        )
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return FetchPage(items=items, next=cursor)

    async def test_realm(
        self,
        caller: Caller,
        path: RealmPath,
        query: TeamQuery,  # noqa: ARG002
        body: DryRunRequest,
    ) -> DryRun:
        """Try a realm without asking the provider.

        Shows the request, with secrets masked, and what the realm makes of an answer that you give.
        """
        return dry_run(await self._realms.show(caller.team, path.id), body, self._clock.wall())

    async def list_secrets(self, caller: Caller, query: SecretQuery) -> SecretPage:
        """List the secrets of a team, or of a realm, without their values."""
        limit, offset = _window(query)
        found, total = await self._realms.secrets_of(
            caller.team, query.realm, limit=limit + 1, offset=offset, after=query.cursor
        )
        items, cursor = cut_page(found, limit, lambda each: f"{each.realm}/{each.key}")
        return SecretPage(data=SecretList(list=items, total=total), next=cursor)

    async def create_secret(self, caller: Caller, body: NewSecret) -> RealmSecret:
        """Keep the keys of an application.

        They are sealed, sent to the realm's provider, and shown to nobody. They are for the provider that the realm
        names now, and no other.
        """
        team = chosen_team(caller, Action.REALM_SECRETS_CREATE, body.team)
        numbered = {name: value for name in NUMBERED if (value := getattr(body, name)) is not None}
        return await self._realms.create_secret(
            caller, TokenKey(team, body.realm, body.key), body.comment, {**body.fields, **numbered}
        )

    async def show_secret(self, caller: Caller, path: SecretPath, query: TeamQuery) -> RealmSecret:  # noqa: ARG002
        """Show a secret, without its values."""
        return await self._realms.show_secret(caller.team, path.realm, path.key)

    async def change_secret(
        self,
        caller: Caller,
        path: SecretPath,
        query: TeamQuery,  # noqa: ARG002
        body: SecretChange,
    ) -> RealmSecret:
        """Change fields of a secret.

        Its token is fetched anew. Where the realm names another provider by now, give all fields.
        """
        given: dict[str, str | None] = dict(body.fields)
        for name in NUMBERED:
            value = getattr(body, name)
            if value is not UNSET:
                given[name] = value
        return await self._realms.change_secret(
            caller,
            TokenKey(caller.team, path.realm, path.key),
            comment=None if body.comment is UNSET else body.comment,
            given=given,
        )

    async def delete_secret(self, caller: Caller, path: SecretPath, query: TeamQuery) -> None:  # noqa: ARG002
        """Delete a secret, and its token."""
        await self._realms.delete_secret(caller, TokenKey(caller.team, path.realm, path.key))


def _get(path: str, handler: Any, action: Action, *errors: type[Any]) -> Route:
    return Route(method="GET", path=path, handler=handler, action=action, errors=errors)


def _post(
    path: str, handler: Any, action: Action, *errors: type[Any], every_team: bool = False, status: int = 201
) -> Route:
    return Route(
        method="POST",
        path=path,
        handler=handler,
        action=action,
        every_team=every_team,
        status=status,
        errors=errors,
    )


def _change(method: str, path: str, handler: Any, action: Action, *errors: type[Any], status: int = 200) -> Route:
    return Route(
        method=method, path=path, handler=handler, action=action, status=status, errors=(ForbiddenError, *errors)
    )


def _window(query: PagedQuery) -> tuple[int, int]:
    """Most items, and how many are left out before."""
    limit = query.pageSize or query.limit
    return limit, 0 if query.cursor is not None else (query.page - 1) * limit
