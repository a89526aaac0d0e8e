"""What a provider's answer says, without any I/O.

    the answer cannot be read, its status is no success, or the realm's rule finds an error in it   ProviderAnswerError
    it says that the secret does not hold (B4)                                                      .refused is true
    a token, and how long it lives; the realm's default when that is missing or nonsense (B6)       Obtained

What a provider says about an error is kept for people, cut, and without any value of the secret: providers quote what
they were sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from api_server.broker.paths import MISSING, look_up
from api_server.broker.records import RealmConfig, Rule
from common.secret import Secret

__all__ = ["Obtained", "ProviderAnswerError", "interpret", "without_secrets"]

_MAX_TOKEN = 32 * 1024
"""Characters."""
_MAX_LIFE = 10 * 366 * 24 * 3600.0
"""Seconds; what is said to live longer is nonsense."""
_MAX_WAIT = 3600.0
"""Seconds; a provider that asks for more is asked again all the same."""

_OAUTH_REFUSALS = frozenset({"invalid_client", "invalid_grant"})
"""RFC 6749 section 5.2."""


@dataclass(frozen=True, slots=True)
class Obtained:
    """A token, as a provider gave it."""

    token: Secret
    token_type: str
    life: float
    """Seconds from now."""
    said_life: bool
    """Whether the provider has said how long it lives."""


class ProviderAnswerError(Exception):
    """An answer without a token. It does not leave the broker.

    Args:
        code: a word for it, or the provider's own.
        detail: for people, without secrets.
        refused: the provider says that the secret does not hold.
        certain: the provider has certainly made no token.
        retry_after: seconds that it asks for.
    """

    def __init__(
        self, code: str, detail: str, *, refused: bool = False, certain: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.refused = refused
        self.certain = certain
        self.retry_after = retry_after


def interpret(
    config: RealmConfig,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    secrets: Iterable[str] = (),
) -> Obtained:
    """The token in an answer.

    Args:
        config: of the realm.
        status: of the answer.
        headers: names in lower case.
        body: of the answer.
        now: seconds since the Unix epoch.
        secrets: values that must not be quoted.

    Raises:
        ProviderAnswerError: there is none.
    """
    hidden = list(secrets)
    document = _document(config, body)
    if not 200 <= status < 300:
        raise _bad_status(config, status, document, headers, now, hidden)
    if document is None:
        raise ProviderAnswerError("answer_unreadable", f"the answer is not {config.answer}", certain=False)
    message = _message(config, document, hidden)
    if _holds(config.refusal, document):
        assert config.refusal is not None
        raise ProviderAnswerError(_code(document, config.refusal.path, hidden), message, refused=True)
    if config.success is not None:
        value = look_up(document, config.success.path)
        if value is not MISSING and not _holds(config.success, document):
            raise ProviderAnswerError(_code(document, config.success.path, hidden), message)
    if isinstance(error := look_up(document, "/error"), str) and error in _OAUTH_REFUSALS:
        raise ProviderAnswerError(error, message, refused=True)
    token = document if config.answer == "text" else look_up(document, config.token_path)
    if not isinstance(token, str) or not token or len(token) > _MAX_TOKEN or not token.isprintable():
        raise ProviderAnswerError("token_missing", message or f"no token at {config.token_path}", certain=False)
    life = _life(config, document, now)
    return Obtained(Secret(token), _token_type(config, document), life or config.default_life, life is not None)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` for each value of a secret, cut to what the log keeps."""
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= 4:  # a shorter one would be found everywhere
            text = text.replace(value, "***")
    return "".join(each if each.isprintable() else " " for each in text)[:200]


def _document(config: RealmConfig, body: bytes) -> Any:
    """The answer as a JSON parser would have it, or its text; None when it is not what the realm says."""
    match config.answer:
        case "json":
            try:
                return msgspec.json.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return None
        case "form":
            try:
                return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
            except ValueError:
                return None
        case _:
            try:
                return body.decode().strip()
            except UnicodeDecodeError:
                return None


def _bad_status(
    config: RealmConfig, status: int, document: Any, headers: Mapping[str, str], now: float, hidden: list[str]
) -> ProviderAnswerError:
    message = _message(config, document, hidden)
    error = look_up(document, "/error")
    if status in (400, 401, 403):
        if isinstance(error, str) and error in _OAUTH_REFUSALS:
            return ProviderAnswerError(error, message, refused=True)
        if _holds(config.refusal, document):
            assert config.refusal is not None
            return ProviderAnswerError(_code(document, config.refusal.path, hidden), message, refused=True)
    code = f"http_{status}"
    if 300 <= status < 400:
        message = "the provider answers with a redirect, and none is followed"
    retry_after = _retry_after(headers.get("retry-after", ""), now)
    return ProviderAnswerError(code, message, certain=status < 500, retry_after=retry_after)


def _holds(rule: Rule | None, document: Any) -> bool:
    if rule is None:
        return False
    value = look_up(document, rule.path)
    return isinstance(value, str | int | bool | float) and _text(value) in {_text(each) for each in rule.values}


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def _code(document: Any, path: str, hidden: list[str]) -> str:
    value = look_up(document, path)
    text = _text(value) if isinstance(value, str | int | bool | float) else "error"
    return without_secrets(text, hidden)[:64]


def _message(config: RealmConfig, document: Any, hidden: list[str]) -> str:
    message = look_up(document, config.message_path) if config.message_path is not None else MISSING
    return without_secrets(message, hidden) if isinstance(message, str) else ""


def _token_type(config: RealmConfig, document: Any) -> str:
    found = look_up(document, config.token_type_path) if config.token_type_path is not None else MISSING
    usable = isinstance(found, str) and 0 < len(found) <= 64 and found.isascii() and found.isprintable()
    return str(found) if usable else config.token_type


def _life(config: RealmConfig, document: Any, now: float) -> float | None:
    """Seconds that the token lives; None when the answer does not say, or says nonsense (B6)."""
    scale = 1000.0 if config.expires_in_unit == "milliseconds" else 1.0
    for path, start in ((config.expires_at_path, now), (config.expires_in_path, 0.0)):
        if path is None:
            continue
        number = _number(look_up(document, path))
        if number is not None and 0 < (life := number / scale - start) <= _MAX_LIFE:
            return life
    return None


def _number(value: object) -> float | None:
    match value:
        case bool():
            return None
        case int() | float():
            number = float(value) if abs(value) < 1e18 else math.inf
        case str() if value.isascii() and len(value) <= 24:
            try:
                number = float(value)
            except ValueError:
                return None
        case _:
            return None
    return number if math.isfinite(number) else None


def _retry_after(text: str, now: float) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _MAX_WAIT)
