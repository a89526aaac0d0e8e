"""What a realm would send, and what it would make of an answer, without asking anybody."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.broker.answers import ProviderAnswerError, interpret
from api_server.broker.records import Realm
from api_server.broker.requests import MASK, build_request, fields_used

__all__ = ["DryAnswer", "DryRun", "DryRunRequest", "dry_run"]


class DryAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer of the provider, to be read as the realm says."""

    status: Annotated[int, Meta(ge=100, le=599)] = 200
    body: Annotated[str, Meta(max_length=65536)] = ""


class DryRunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to try."""

    answer: DryAnswer | None = None
    """Without one, only the request is shown."""


class SentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request, with `***` for each field of the secret."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None


class ReadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the realm makes of the answer."""

    ok: bool
    token: str | None
    """`***`, if one was found."""
    token_type: str | None
    expires_in: int | None
    """Milliseconds."""
    expires_in_said: bool
    """Whether the answer says so; otherwise it is the realm's default."""
    refused: bool
    """Whether it means that the secret does not hold."""
    code: str
    detail: str


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen."""

    request: SentRequest | None
    """Null for a fixed-token realm, which asks nobody."""
    fields: list[str]
    """That a secret must have."""
    answer: ReadAnswer | None


def dry_run(realm: Realm, wanted: DryRunRequest, now: float) -> DryRun:
    """Try a realm.

    Args:
        realm: as it is saved.
        wanted: what to try.
        now: seconds since the Unix epoch.
    """
    sent = None
    if realm.config.kind == "fetch":
        made = build_request(realm.config, None)
        sent = SentRequest(
            method=made.method,
            url=made.url,
            headers=dict(made.headers),
            body=None if made.body is None else made.body.decode(),
        )
    answer = None if wanted.answer is None else _read(realm, wanted.answer, now)
    return DryRun(request=sent, fields=fields_used(realm.config), answer=answer)


def _read(realm: Realm, given: DryAnswer, now: float) -> ReadAnswer:
    try:
        got = interpret(realm.config, given.status, {}, given.body.encode(), now=now)
    except ProviderAnswerError as exc:
        return ReadAnswer(
            ok=False,
            token=None,
            token_type=None,
            expires_in=None,
            expires_in_said=False,
            refused=exc.refused,
            code=exc.code,
            detail=exc.detail,
        )
    return ReadAnswer(
        ok=True,
        token=MASK,
        token_type=got.token_type,
        expires_in=round(got.life * 1000),
        expires_in_said=got.said_life,
        refused=False,
        code="",
        detail="",
    )
