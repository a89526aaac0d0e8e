"""API tokens in the database. Every call is part of the transaction that it is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, bindparam, case, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.db.types import Time
from api_server.tokens.records import ApiToken, Issuer, LiveToken
from api_server.tokens.tables import api_tokens
from api_server.tokens.warnings import DAY, WARNINGS, days_of
from common.ids import TeamId

__all__ = ["TokenStore"]

_AT_ONCE: Final = 500
"""Ids in one statement."""

_t = api_tokens.c


class TokenStore:
    """SQL for API tokens; it decides nothing."""

    __slots__ = ()

    async def add(self, tx: AsyncConnection, values: Mapping[str, Any]) -> None:
        """Add a token, by its columns."""
        await tx.execute(insert(api_tokens).values(values))

    async def get(self, tx: AsyncConnection, team: TeamId, token: str, *, lock: bool = False) -> ApiToken | None:
        """One token; with `lock` held against other writers until the transaction ends."""
        query = select(api_tokens).where(_t.id == token, _t.team_id == team)
        row = (await tx.execute(query.with_for_update() if lock else query)).first()
        return None if row is None else _shown(row)

    async def those_of(self, tx: AsyncConnection, team: TeamId, *, limit: int, after: str | None) -> list[ApiToken]:
        """Tokens of a team in the order of their ids, those that have ended included."""
        query = select(api_tokens).where(_t.team_id == team).order_by(_t.id).limit(limit)
        if after is not None:
            query = query.where(_t.id > after)
        return [_shown(row) for row in await tx.execute(query)]

    async def hash_of(self, tx: AsyncConnection, token: str) -> str:
        """The hash that a token is found by now."""
        return str((await tx.execute(select(_t.token_hash).where(_t.id == token))).scalar_one())

    async def change(self, tx: AsyncConnection, token: str, values: Mapping[str, Any]) -> None:
        """Change columns of a token."""
        await tx.execute(update(api_tokens).where(_t.id == token).values(values))

    async def find(self, tx: AsyncConnection, hashes: Sequence[str], now: float) -> LiveToken | None:
        """The token of one of `hashes`, if it may be used now."""
        query = select(api_tokens).where(or_(_t.token_hash.in_(hashes), _t.previous_hash.in_(hashes)))
        row = (await tx.execute(query.where(_t.revoked_at.is_(None)))).first()
        if row is None:
            return None
        found = _live(row, replaced=row.token_hash not in hashes)
        return found if found.expires_at is None or found.expires_at > now else None

    async def live(self, tx: AsyncConnection, ids: Collection[str], now: float) -> list[LiveToken]:
        """Those of the tokens that may be used now."""
        wanted, found = list(ids), []
        for first in range(0, len(wanted), _AT_ONCE):
            query = (
                select(api_tokens)
                .where(_t.id.in_(wanted[first : first + _AT_ONCE]), _t.revoked_at.is_(None))
                .where(or_(_t.expires_at.is_(None), _t.expires_at > now))
            )
            found += [_live(row, replaced=False) for row in await tx.execute(query)]
        return found

    async def issuer_of(self, tx: AsyncConnection, token: str, now: float) -> tuple[Issuer, float | None] | None:
        """Whose rights a token is held against, and when it expires; None when it has ended."""
        found = await self.live(tx, (token,), now)
        return (found[0].issuer, found[0].expires_at) if found else None

    async def revoke(self, tx: AsyncConnection, ids: Collection[str], now: float) -> list[ApiToken]:
        """Revoke tokens and all that they have made, and so on; those that were not revoked before."""
        revoked: list[ApiToken] = []
        wanted = list(ids)
        while wanted:
            some, wanted = wanted[:_AT_ONCE], wanted[_AT_ONCE:]
            query = select(api_tokens).where(_t.id.in_(some), _t.revoked_at.is_(None)).with_for_update()
            revoked += [_shown(row) for row in await tx.execute(query)]
            await tx.execute(update(api_tokens).where(_t.id.in_(some), _t.revoked_at.is_(None)).values(revoked_at=now))
            children = select(_t.id).where(_t.parent_id.in_(some), _t.revoked_at.is_(None))
            wanted += (await tx.execute(children)).scalars()
        return revoked

    async def ids_of_team(self, tx: AsyncConnection, team: TeamId) -> list[str]:
        """The tokens of a team that were not revoked."""
        query = select(_t.id).where(_t.team_id == team, _t.revoked_at.is_(None))
        return list((await tx.execute(query)).scalars())

    async def ids_of_issuer(self, tx: AsyncConnection, issuer: Issuer) -> list[str]:
        """The tokens of an issuer that were not revoked."""
        query = select(_t.id).where(_t.issuer_kind == issuer.kind, _t.issuer_id == issuer.id, _t.revoked_at.is_(None))
        return list((await tx.execute(query)).scalars())

    async def used(self, tx: AsyncConnection, uses: Mapping[str, float]) -> None:
        """Write down when tokens were last used; a time that is later already stays."""
        at = bindparam("at", type_=Time())
        statement = (
            update(api_tokens)
            .where(_t.id == bindparam("token"), or_(_t.last_used_at.is_(None), _t.last_used_at < at))
            .values(last_used_at=at)
        )
        await tx.execute(statement, [{"token": token, "at": used_at} for token, used_at in sorted(uses.items())])

    async def due(self, tx: AsyncConnection, now: float, *, limit: int) -> list[ApiToken]:
        """Tokens that expire so soon that a warning is due which nobody has given."""
        query = (
            select(api_tokens)
            .where(_t.revoked_at.is_(None), _t.expires_at > now, _t.expires_at <= now + WARNINGS[0] * DAY)
            .where(_t.warned < _passed(now))
            .order_by(_t.expires_at)
            .limit(limit)
        )
        return [_shown(row) for row in await tx.execute(query)]

    async def warn(self, tx: AsyncConnection, token: ApiToken, warned: int) -> bool:
        """Take it upon oneself to give a token's warnings up to that number; False when somebody else has, or when it
        is no longer as it was seen.
        """
        changed = await tx.execute(
            update(api_tokens)
            .where(_t.id == token.id, _t.warned < warned, _t.revoked_at.is_(None), _t.expires_at == token.expires_at)
            .values(warned=warned)
        )
        return changed.rowcount == 1


def _passed(now: float) -> ColumnElement[int]:
    """How many warnings of a row are due at `now`, one at least."""
    far, *nearer = WARNINGS
    assert far == max(WARNINGS)
    cases = [(_t.expires_at <= now + days * DAY, WARNINGS.index(days) + 1) for days in reversed(nearer)]
    return case(*cases, else_=1)


def _shown(row: Row[Any]) -> ApiToken:
    return ApiToken(
        id=row.id,
        team=row.team_id,
        name=row.name,
        description=row.description,
        start=row.start,
        scopes=row.scopes,
        addresses=row.addresses,
        issuer=f"{row.issuer_kind}:{row.issuer_id}",
        created_by=f"{row.created_by_kind}:{row.created_by}",
        created_at=row.created_at,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        expires_soon=days_of(row.warned) if row.revoked_at is None else None,
        previous_expires_at=row.previous_expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _live(row: Row[Any], *, replaced: bool) -> LiveToken:
    """A row that is not revoked, as what was shown; `replaced` when that is the token before the last rotation."""
    ends = [at for at in (row.expires_at, row.previous_expires_at if replaced else None) if at is not None]
    return LiveToken(
        id=row.id,
        team=row.team_id,
        name=row.name,
        scopes=tuple(row.scopes),
        addresses=tuple(row.addresses),
        issuer=Issuer(kind=row.issuer_kind, id=row.issuer_id),
        expires_at=min(ends, default=None),
    )
