"""What is sent to a provider: made of a realm's configuration and the fields of a secret, without any I/O.

    url       arguments join the query that the URL has
    header    arguments are fields of their own; what frames a request is refused
    body      arguments make a JSON object, a form, or lines of text

With `MASK` in place of each field the same code makes what a dry run shows.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from api_server.broker.errors import RealmInvalidError, RealmSecretInvalidError
from api_server.broker.paths import check_path
from api_server.broker.records import Argument, RealmConfig
from api_server.broker.templates import NUMBERED, is_field_name, references, rendered
from api_server.outbound.policy import TargetPolicy

__all__ = [
    "MASK",
    "ProviderRequest",
    "build_request",
    "check_config",
    "check_fields",
    "fields_used",
    "fixed_token",
    "provider_of",
]

MASK: Final = "***"

_TYPES: Final = {"json": "application/json", "form": "application/x-www-form-urlencoded", "text": "text/plain"}

_FRAMING: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""A field name (RFC 9110 section 5.6.2)."""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """A request. It holds secrets: it is not shown, and not logged."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None

    def __repr__(self) -> str:
        return f"ProviderRequest({self.method})"


def check_config(config: RealmConfig, policy: TargetPolicy) -> str:
    """Whether a realm can be used; the scheme, host and port of its provider, or nothing for a fixed token.

    Raises:
        RealmInvalidError: it cannot.
        TargetRefusedError: its URL can be no target.
    """
    known = set(NUMBERED)
    for name in config.fields:
        if not is_field_name(name) or name in NUMBERED:
            raise RealmInvalidError(f"{name!r} cannot name a field: lower-case letters, digits and _, but no key_1")
        known.add(name)
    for name in fields_used(config):
        if name not in known:
            raise RealmInvalidError(f"${name} is no field of a secret: there are key_1 to key_5 and those of `fields`")
    for path in (config.token_path, config.token_type_path, config.expires_in_path, config.expires_at_path):
        if path is not None:
            check_path(path)
    for rule in (config.success, config.refusal):
        if rule is not None:
            check_path(rule.path)
    if config.message_path is not None:
        check_path(config.message_path)
    if config.kind == "fixed":
        if not config.token or not references(config.token):
            raise RealmInvalidError("a fixed-token realm says which field of the secret is the token: token: $key_1")
        return ""
    if config.token:
        raise RealmInvalidError("only a realm of the kind fixed has a token")
    for argument in config.arguments:
        _check_argument(argument, config)
    policy.check_url(config.url)
    return provider_of(config)


def provider_of(config: RealmConfig) -> str:
    """Scheme, host and port that a realm's secrets are sent to; nothing for a fixed token."""
    if config.kind == "fixed":
        return ""
    parts = urlsplit(config.url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def fields_used(config: RealmConfig) -> list[str]:
    """The fields that a realm refers to, each once.

    Raises:
        RealmInvalidError: a value is no template.
    """
    templates = [argument.value for argument in config.arguments]
    if config.client_auth is not None:
        templates += [config.client_auth.username, config.client_auth.password]
    templates.append(config.token)
    return list(dict.fromkeys(name for template in templates for name in references(template)))


def check_fields(config: RealmConfig, fields: Mapping[str, str]) -> None:
    """Whether a secret has what its realm refers to.

    Raises:
        RealmSecretInvalidError: it lacks a field, has an unknown one, or one that cannot be sent.
    """
    if missing := [name for name in fields_used(config) if not fields.get(name)]:
        raise RealmSecretInvalidError(f"the realm refers to {', '.join(missing)}, which the secret lacks")
    if unknown := sorted(fields.keys() - set(NUMBERED) - set(config.fields)):
        raise RealmSecretInvalidError(f"the realm has no field {', '.join(unknown)}")
    build_request(config, fields)


def build_request(config: RealmConfig, fields: Mapping[str, str] | None) -> ProviderRequest:
    """The request that asks for a token.

    Args:
        config: for which `check_config` holds.
        fields: of the secret; None to have `MASK` in place of each, to be shown.

    Raises:
        RealmSecretInvalidError: a value cannot stand in a header field.
    """
    masked = fields is None
    if fields is None:
        fields = dict.fromkeys(fields_used(config), MASK)
    headers = {"Accept": "application/json, */*;q=0.5"}
    query: list[tuple[str, str]] = []
    body: list[tuple[str, str]] = []
    for argument in config.arguments:
        value = rendered(argument.value, fields)
        match argument.place:
            case "url":
                query.append((argument.name, value))
            case "header":
                headers[argument.name] = _header_value(value, argument.name)
            case "body":
                body.append((argument.name, value))
    if config.client_auth is not None:
        username, password = (
            rendered(template, fields) for template in (config.client_auth.username, config.client_auth.password)
        )
        pair = f"{quote_plus(username)}:{quote_plus(password)}"
        headers["Authorization"] = "Basic " + (MASK if masked else base64.b64encode(pair.encode()).decode())
    content = None
    if config.method == "POST":
        headers["Content-Type"] = _TYPES[config.content_type]
        content = _body(config.content_type, body)
    url = config.url
    if query:
        url += ("&" if "?" in url else "?") + urlencode(query, safe="*")
    return ProviderRequest(config.method, url, headers, content)


def fixed_token(config: RealmConfig, fields: Mapping[str, str]) -> str:
    """The token of a fixed-token realm."""
    return rendered(config.token, fields)


def _check_argument(argument: Argument, config: RealmConfig) -> None:
    name = argument.name
    if argument.place == "body" and config.method == "GET":
        raise RealmInvalidError(f"{name}: a GET has no body")
    if argument.place != "header":
        return
    if not _TOKEN.fullmatch(name) or name.lower() in _FRAMING:
        raise RealmInvalidError(f"{name!r} is no header field that a realm can set")
    if name.lower() == "authorization" and config.client_auth is not None:
        raise RealmInvalidError("client_auth makes the field Authorization; it cannot be an argument as well")
    if not argument.value.isprintable():
        raise RealmInvalidError(f"{name}: a header field has no control characters")


def _header_value(value: str, name: str) -> str:
    if not value.isprintable():
        raise RealmSecretInvalidError(f"a value cannot stand in the header field {name}: it has control characters")
    return value


def _body(content_type: str, arguments: list[tuple[str, str]]) -> bytes:
    match content_type:
        case "json":
            return msgspec.json.encode(dict(arguments))
        case "form":
            return urlencode(arguments, safe="*").encode()
        case _:
            return "\n".join(value for _, value in arguments).encode()
