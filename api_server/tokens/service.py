"""What may be done with API tokens, and by whom.

    never more than one has      what is granted is held by whoever makes the token, or rotates it and gets to see it
    held against the issuer      whose rights are looked at again each time the token is used: see `verifier`
    a token's tokens             are its issuer's, expire no later, and are revoked with it
    shown once                   the database has a keyed hash and the first characters

Each change is one transaction with its line in the audit log; who remembers a token is told after it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action, Identity
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from api_server.tokens.errors import ApiTokenEndedError, ApiTokenNotFoundError
from api_server.tokens.keys import TokenKeys
from api_server.tokens.records import ADMINISTRATION, ApiToken, Issuer
from api_server.tokens.scopes import check_granted
from api_server.tokens.store import TokenStore
from api_server.tokens.warnings import passed
from common.clock import Clock
from common.crypto.api_tokens import new_api_token, start
from common.ids import TeamId, new_id
from common.secret import Secret

__all__ = ["MAX_OVERLAP", "TOKEN_ID", "TokenService"]

MAX_OVERLAP: Final = 30 * 86400.0
"""Seconds for which the token before a rotation may hold as well."""

TOKEN_ID: Final = "tok_"  # noqa: S105  the public prefix of ids
"""What the id of an API token begins with; the administration token has another."""

_ENDED: Final = "it has ended; make another one"


class TokenService:
    """The rules of API tokens. Implements `TeamEnder` and `UserEnder`.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: told of each change.
        keys: that tokens are hashed with.
        clock: wall time.
        max_lifetime: seconds, of any; 0 for no limit.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        keys: TokenKeys,
        clock: Clock,
        *,
        max_lifetime: float,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._keys = keys
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._store = TokenStore()

    async def create(
        self,
        caller: Caller,
        team: TeamId,
        *,
        name: str,
        description: str,
        scopes: Sequence[str],
        addresses: Sequence[str],
        expires_in: float | None,
    ) -> tuple[ApiToken, Secret]:
        """Make a token.

        Args:
            caller: who asks.
            team: that it belongs to.
            name: for people.
            description: for people.
            scopes: what it may do.
            addresses: networks that it may be used from; none for any.
            expires_in: seconds; None for the longest that is allowed.

        Returns:
            It, and the token itself, which cannot be had again.

        Raises:
            ForbiddenError: the caller is neither a person nor a token.
            ScopeNotGrantedError: the caller has less than that.
            UnknownScopeError: a scope says nothing.
            ValidationFailedError: an address is none; a life is longer than allowed.
        """
        identity = caller.identity
        wanted = list(dict.fromkeys(scopes))
        check_granted(wanted, identity, team)
        networks = _networks(addresses)
        lifetime = self._lifetime(expires_in)
        now = self._clock.wall()
        token, made = new_api_token(), new_id(TOKEN_ID.removesuffix("_"))

        async def work(tx: AsyncConnection) -> tuple[ApiToken, Change]:
            issuer, parent, bound = await self._issuer(tx, identity, now)
            expires_at = _sooner(None if lifetime is None else now + lifetime, bound)
            await self._store.add(
                tx,
                {
                    "id": made,
                    "team_id": team,
                    "name": name,
                    "description": description,
                    "start": start(token),
                    "token_hash": self._keys.stored(token),
                    "scopes": wanted,
                    "addresses": networks,
                    "issuer_kind": issuer.kind,
                    "issuer_id": issuer.id,
                    "created_by_kind": identity.kind,
                    "created_by": identity.id,
                    "parent_id": parent,
                    "created_at": now,
                    "issued_at": now,
                    "expires_at": expires_at,
                    "warned": passed(expires_at, now),
                },
            )
            shown = await self._get(tx, team, made)
            after = {"name": name, "scopes": wanted, "addresses": networks, "expires_at": expires_at}
            return shown, await self._record(tx, caller, shown, "created", None, after)

        shown, change = await self._database.write(work)
        await self._changes.announce([change])
        return shown, token

    async def those_of(self, team: TeamId, *, limit: int, after: str | None) -> list[ApiToken]:
        """Tokens of a team in the order of their ids, those that have ended included."""
        return await self._database.read(lambda tx: self._store.those_of(tx, team, limit=limit, after=after))

    async def show(self, team: TeamId, token: str) -> ApiToken:
        """One token.

        Raises:
            ApiTokenNotFoundError: the team has none of that id.
        """
        return await self._database.read(lambda tx: self._get(tx, team, token))

    async def edit(self, caller: Caller, token: str, changes: Mapping[str, str]) -> ApiToken:
        """Change a token's name or description.

        Raises:
            ApiTokenNotFoundError: the team has none of that id.
            ForbiddenError: somebody else has made it, and the caller may change their own only.
        """

        async def work(tx: AsyncConnection) -> tuple[ApiToken, list[Change]]:
            before = await self._changeable(tx, caller, token)
            if not changes:
                return before, []
            await self._store.change(tx, token, changes)
            shown = await self._get(tx, caller.team, token)
            was = {key: getattr(before, key) for key in changes}
            return shown, [await self._record(tx, caller, shown, "edited", was, dict(changes), shown_to_all=False)]

        shown, told = await self._database.write(work)
        await self._changes.announce(told)
        return shown

    async def rotate(
        self, caller: Caller, token: str, *, overlap: float, expires_in: float | None
    ) -> tuple[ApiToken, Secret]:
        """Replace what is shown for a token by something new; id, name and scopes stay.

        Args:
            caller: who asks; a token may rotate itself.
            token: its id.
            overlap: seconds for which what was shown until now holds as well, unless it expires before.
            expires_in: seconds; None for as long again as it was given at last.

        Returns:
            It, and the new token, which cannot be had again.

        Raises:
            ApiTokenEndedError: it is revoked, or has expired.
            ApiTokenNotFoundError: the team has none of that id.
            ForbiddenError: somebody else has made it, and the caller may change their own only.
            ScopeNotGrantedError: it may do more than the caller, who would get to see it.
            ValidationFailedError: a life is longer than allowed.
        """
        now = self._clock.wall()
        fresh = new_api_token()

        async def work(tx: AsyncConnection) -> tuple[ApiToken, Change]:
            before = await self._changeable(tx, caller, token, itself=True)
            if before.revoked_at is not None or (before.expires_at is not None and before.expires_at <= now):
                raise ApiTokenEndedError(_ENDED)
            check_granted(before.scopes, caller.identity, caller.team)
            _, _, bound = await self._issuer(tx, caller.identity, now, itself=token)
            again = expires_in
            if again is None and before.expires_at is not None:
                again = before.expires_at - before.issued_at
                again = min(again, self._max_lifetime or again)
            lifetime = self._lifetime(again)
            expires_at = _sooner(None if lifetime is None else now + lifetime, bound)
            held_until = _sooner(now + overlap, before.expires_at) if overlap else None
            await self._store.change(
                tx,
                token,
                {
                    "start": start(fresh),
                    "previous_hash": await self._store.hash_of(tx, token) if overlap else None,
                    "previous_expires_at": held_until,
                    "token_hash": self._keys.stored(fresh),
                    "issued_at": now,
                    "expires_at": expires_at,
                    "warned": passed(expires_at, now),
                },
            )
            shown = await self._get(tx, caller.team, token)
            was = {"start": before.start, "expires_at": before.expires_at}
            after = {"start": shown.start, "expires_at": expires_at, "previous_expires_at": held_until}
            return shown, await self._record(tx, caller, shown, "rotated", was, after)

        shown, change = await self._database.write(work)
        await self._changes.announce([change])
        return shown, fresh

    async def revoke(self, caller: Caller, token: str) -> None:
        """Revoke a token, and all that it has made. Twice is no error.

        Raises:
            ApiTokenNotFoundError: the team has none of that id.
            ForbiddenError: somebody else has made it, and the caller may change their own only.
        """

        async def work(tx: AsyncConnection) -> list[Change]:
            await self._changeable(tx, caller, token, itself=True)
            revoked = await self._store.revoke(tx, [token], self._clock.wall())
            changes = [await self._changes.record(tx, _revoked(each, caller)) for each in revoked]
            for each in revoked:
                await self._audit.record(tx, entry_of(caller, each.team, "token.revoked", ("api_token", each.id)))
            return changes

        await self._changes.announce(await self._database.write(work))

    # What ends with something else

    async def end_team(self, tx: AsyncConnection, team: TeamId, now: float) -> Sequence[Change]:
        """As `TeamEnder` says. Nobody is left to be shown it."""
        return await self._end(tx, await self._store.ids_of_team(tx, team), now)

    async def end_user(self, tx: AsyncConnection, user: str, now: float) -> Sequence[Change]:
        """As `UserEnder` says: what the user has issued is revoked for good."""
        return await self._end(tx, await self._store.ids_of_issuer(tx, Issuer(kind="user", id=user)), now)

    async def _end(self, tx: AsyncConnection, ids: Sequence[str], now: float) -> Sequence[Change]:
        revoked = await self._store.revoke(tx, ids, now)
        if not revoked:
            return []
        return [await self._changes.record(tx, Change(topic=Topic.TOKENS, team=None, subject=""))]

    # Parts

    async def _get(self, tx: AsyncConnection, team: TeamId, token: str, *, lock: bool = False) -> ApiToken:
        found = await self._store.get(tx, team, token, lock=lock)
        if found is None:
            raise ApiTokenNotFoundError("the team has no API token of that id")
        return found

    async def _changeable(self, tx: AsyncConnection, caller: Caller, token: str, *, itself: bool = False) -> ApiToken:
        """A token that the caller may change, held against other writers; with `itself` also the one that asks."""
        found = await self._get(tx, caller.team, token, lock=True)
        kind, _, creator = found.created_by.partition(":")
        change, own = Action.API_TOKENS_CHANGE, Action.API_TOKENS_CHANGE_OWN
        identity = caller.identity
        if not identity.may_change(change, own, found.team, (kind, creator)) and not (itself and identity.id == token):
            raise ForbiddenError(f"{identity.name!r} may change own API tokens only")
        return found

    async def _issuer(
        self, tx: AsyncConnection, identity: Identity, now: float, *, itself: str | None = None
    ) -> tuple[Issuer, str | None, float | None]:
        """Whose rights what `identity` makes is held against, the token that makes it, and when that expires.

        Args:
            tx: the transaction.
            identity: who asks.
            now: seconds since the Unix epoch.
            itself: id of a token whose own rotation is not bound by its present end.
        """
        match identity.kind:
            case "user":
                return Issuer(kind="user", id=identity.id), None, None
            case "token" if not identity.id.startswith(TOKEN_ID):
                return Issuer(kind=ADMINISTRATION, id=identity.id), None, None
            case "token":
                found = await self._store.issuer_of(tx, identity.id, now)
                if found is None:
                    raise ApiTokenEndedError(_ENDED)
                issuer, expires_at = found
                return issuer, identity.id, None if identity.id == itself else expires_at
            case _:
                raise ForbiddenError("API tokens are made by people, and by API tokens")

    def _lifetime(self, wanted: float | None) -> float | None:
        if wanted is None:
            return self._max_lifetime or None
        if self._max_lifetime and wanted > self._max_lifetime:
            raise ValidationFailedError(f"body: expires_in may be {self._max_lifetime:.0f} seconds at most here")
        return wanted

    async def _record(
        self,
        tx: AsyncConnection,
        caller: Caller,
        token: ApiToken,
        what: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        *,
        shown_to_all: bool = True,
    ) -> Change:
        """Count the change and write it down; gives the change to be announced."""
        action = f"token.{what}"
        change = Change(
            topic=Topic.TOKENS,
            team=token.team,
            subject=token.id,
            event=action if shown_to_all else None,
            data={"name": token.name, "expires_at": token.expires_at, "by": caller.identity.id},
        )
        recorded = await self._changes.record(tx, change)
        entry = entry_of(caller, token.team, action, ("api_token", token.id), before=before, after=after)
        await self._audit.record(tx, entry)
        return recorded


def _revoked(token: ApiToken, caller: Caller) -> Change:
    return Change(
        topic=Topic.TOKENS,
        team=token.team,
        subject=token.id,
        event="token.revoked",
        data={"name": token.name, "by": caller.identity.id},
    )


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)


def _networks(addresses: Sequence[str]) -> list[str]:
    """The networks as they are kept.

    Raises:
        ValidationFailedError: one is none.
    """
    try:
        return list(dict.fromkeys(str(ipaddress.ip_network(each)) for each in addresses))
    except ValueError:
        raise ValidationFailedError(
            "body: addresses must be networks such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7"
        ) from None
