"""Realms, secrets and tokens as they are stored and shown. Times are seconds since the Unix epoch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.ids import TeamId

__all__ = [
    "Argument",
    "BasicAuth",
    "Fetch",
    "Realm",
    "RealmConfig",
    "RealmConfigInput",
    "RealmSecret",
    "Rule",
    "TokenKey",
    "settings_of",
]

_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Value = Annotated[str, Meta(max_length=4096)]
_Path = Annotated[str, Meta(min_length=1, max_length=256)]
_Fields = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=32)]
_Life = Annotated[float, Meta(ge=1, le=10 * 366 * 24 * 3600)]
_Timeout = Annotated[float, Meta(ge=1, le=60)]
_Margin = Annotated[float, Meta(ge=0, le=30 * 24 * 3600)]
_Overlap = Annotated[float, Meta(ge=0, le=366 * 24 * 3600)]
_Interval = Annotated[float, Meta(ge=1, le=24 * 3600)]
_Url = Annotated[str, Meta(max_length=2048)]

Kind = Literal["fetch", "fixed"]
Method = Literal["GET", "POST"]
ContentType = Literal["json", "form", "text"]
Place = Literal["url", "header", "body"]
Unit = Literal["seconds", "milliseconds"]


class Argument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is sent to the provider."""

    name: _Name
    place: Place
    value: _Value
    """A constant, or with references: `$key_1`, `${client_id}`; `$$` is a dollar sign."""


class BasicAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Client authentication in the header (RFC 6749 section 2.3.1)."""

    username: _Value
    password: _Value


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether something stands in the answer."""

    path: _Path
    values: Annotated[list[str | int | bool], Meta(min_length=1, max_length=32)]
    """Any of these; compared as text."""


class RealmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a token is had."""

    kind: Kind = "fetch"
    """`fixed` takes the token from the secret, and asks nobody."""
    preset: str = ""
    """What it was made of, for people; its values are written out in the other fields."""
    url: _Url = ""
    method: Method = "GET"
    content_type: ContentType = "json"
    """Of the body that is sent. `text` is the values of the body's arguments, each on a line."""
    arguments: Annotated[list[Argument], Meta(max_length=64)] = []
    fields: _Fields = []
    """Names of fields that a secret has beside `key_1` to `key_5`."""
    client_auth: BasicAuth | None = None
    answer: ContentType = "json"
    """How the answer is read. `text` is the token alone."""
    token_path: _Path = "access_token"  # noqa: S105
    token_type_path: _Path | None = "token_type"  # noqa: S105
    token_type: Annotated[str, Meta(max_length=64)] = "Bearer"  # noqa: S105
    """When the answer names none."""
    expires_in_path: _Path | None = "expires_in"
    expires_in_unit: Unit = "seconds"
    expires_at_path: _Path | None = None
    """Of an absolute time: seconds or milliseconds since the Unix epoch, as `expires_in_unit` says."""
    default_life: _Life = 3600.0
    """Seconds that a token lives when the answer does not say, or says nonsense."""
    success: Rule | None = None
    """When its path stands in the answer, with another value, the answer is an error, though its status is 200."""
    refusal: Rule | None = None
    """An answer by which the provider says that the secret does not hold; `invalid_client` and `invalid_grant` of
    OAuth are always understood."""
    message_path: _Path | None = None
    """Of what the provider says about an error."""
    token: _Value = ""
    """Of a fixed-token realm: the token, as a template."""
    refresh_margin: _Margin = 300.0
    """Seconds before its end that a token is refreshed; at most a fifth of its life."""
    overlap: _Overlap | None = None
    """Seconds that the old token still holds after the provider has given a new one; null: until its own end."""
    timeout: _Timeout = 10.0
    """Seconds for a call to the provider, as a whole."""
    flush_interval: _Interval = 10.0
    """Seconds between two flushes of one token."""


class RealmConfigInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a token is had. What is left out is as the preset says, or has its default; in a change, it stays."""

    preset: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    """`wechat-work`, `wechat-official-account`, `oauth2-client-credentials`: values for the other fields."""
    kind: Kind | UnsetType = UNSET
    url: _Url | UnsetType = UNSET
    method: Method | UnsetType = UNSET
    content_type: ContentType | UnsetType = UNSET
    arguments: Annotated[list[Argument], Meta(max_length=64)] | UnsetType = UNSET
    fields: _Fields | UnsetType = UNSET
    client_auth: BasicAuth | UnsetType | None = UNSET
    answer: ContentType | UnsetType = UNSET
    token_path: _Path | UnsetType = UNSET
    token_type_path: _Path | UnsetType | None = UNSET
    token_type: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    expires_in_path: _Path | UnsetType | None = UNSET
    expires_in_unit: Unit | UnsetType = UNSET
    expires_at_path: _Path | UnsetType | None = UNSET
    default_life: _Life | UnsetType = UNSET
    success: Rule | UnsetType | None = UNSET
    refusal: Rule | UnsetType | None = UNSET
    message_path: _Path | UnsetType | None = UNSET
    token: _Value | UnsetType = UNSET
    refresh_margin: _Margin | UnsetType = UNSET
    overlap: _Overlap | UnsetType | None = UNSET
    timeout: _Timeout | UnsetType = UNSET
    flush_interval: _Interval | UnsetType = UNSET


def settings_of(given: RealmConfigInput) -> dict[str, Any]:
    """What was given, by name."""
    named = {name: getattr(given, name) for name in given.__struct_fields__}
    return {name: msgspec.to_builtins(value) for name, value in named.items() if value is not UNSET}


class Realm(msgspec.Struct, frozen=True, kw_only=True):
    """How a team gets tokens from a provider."""

    id: str
    team: TeamId
    comment: str
    config: RealmConfig
    version: int
    """Grows with each change."""
    created_at: float
    created_by: str
    """`user:` or `token:` and the id."""
    updated_at: float

    @property
    def creator(self) -> tuple[str, str]:
        """Kind and id of who created it."""
        kind, _, identifier = self.created_by.partition(":")
        return kind, identifier


class RealmSecret(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one application, whose values are never shown: `***` stands for each that there is."""

    realm: str
    key: str
    team: TeamId
    comment: str
    key_1: str | None
    key_2: str | None
    key_3: str | None
    key_4: str | None
    key_5: str | None
    fields: dict[str, str]
    """Those with names of their own."""
    provider: str
    """Scheme, host and port that it is sent to; a realm that names another one cannot use it."""
    version: int
    created_at: float
    created_by: str
    """`user:` or `token:` and the id."""
    updated_at: float

    @property
    def creator(self) -> tuple[str, str]:
        """Kind and id of who created it."""
        kind, _, identifier = self.created_by.partition(":")
        return kind, identifier


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """A call to a provider."""

    id: str
    realm: str
    key: str
    reason: str
    """`missing`, `due`, `flush`, or `refused`: a backend did not take the token."""
    started_at: float
    ended_at: float | None
    outcome: str
    """`running`, `done`, `failed`, `refused`; `discarded` when realm or secret were changed meanwhile; `unknown` when
    the process that asked died before it could say what came of it."""
    status: int | None
    """Of the answer."""
    code: str
    """What went wrong: a code of Homeport, or the provider's own."""
    detail: str
    process: str
    """Who asked."""


class TokenKey(msgspec.Struct, frozen=True, eq=True, order=True):
    """Which token: that of an application, in a realm of a team."""

    team: TeamId
    realm: str
    key: str

    @property
    def lease(self) -> str:
        """The name under which one process at a time fetches it."""
        return f"realm-token/{self.team}/{self.realm}/{self.key}"

    @property
    def subject(self) -> str:
        """As changes say it."""
        return f"{self.realm}/{self.key}"
