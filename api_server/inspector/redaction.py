"""What is secret in a request or response, taken out before anybody sees it.

Names decide for fields, parameters and members of JSON: `Authorization`, cookies, and whatever sounds of a secret
(`gateway.memo`). Beside that all text is masked as log lines are. A secret under a name that says nothing of it stays:
that is why a route is inspected only if somebody asks for it, and shown only to who may call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from common.logging import mask

__all__ = ["is_secret", "redacted_fields", "redacted_target", "redacted_text"]

_HIDDEN: Final = "***"

_SECRET: Final = re.compile(
    r"auth(?!ors?\b)|cookie|credential|csrf|jwt|api[-_]?key|access[-_]?key|passw|secret|session|signature|\bsig\b"
    r"|ticket|token|xsrf|private|x-key",
    re.IGNORECASE,
)

_HARMLESS: Final = frozenset(("www-authenticate", "access-control-allow-credentials"))

_PARAMETER: Final = re.compile(r"([^&=?]+)=([^&]*)")
_MEMBER: Final = re.compile(r'("(?:[^"\\]|\\.){1,100}")(\s*:\s*)("(?:[^"\\]|\\.)*"?|\[[^\]]*\]?|[^\s,}\]"{\[]+)')
"""Of JSON that was cut, and cannot be read."""


def is_secret(name: str) -> bool:
    """Whether what has that name is not to be shown."""
    return name.lower() not in _HARMLESS and _SECRET.search(name) is not None


def redacted_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Fields of a head, as they may be shown."""
    return [(name, _HIDDEN if is_secret(name) else mask(value)) for name, value in fields]


def redacted_target(target: str) -> str:
    """A request target, as it may be shown."""
    path, mark, query = target.partition("?")
    return mask(path) + mark + _parameters(query)


def redacted_text(text: str, media_type: str) -> str:
    """The text of a body, as it may be shown."""
    if "json" in media_type:
        return mask(_json(text))
    if "x-www-form-urlencoded" in media_type:
        return _parameters(text)
    return mask(text)


def _json(text: str) -> str:
    try:
        read = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return _MEMBER.sub(_member, text)
    shown = _walked(read)
    return text if shown == read else msgspec.json.encode(shown).decode()


def _walked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _HIDDEN if is_secret(name) and not isinstance(each, bool | None) else _walked(each)
            for name, each in value.items()
        }
    return [_walked(each) for each in value] if isinstance(value, list) else value


def _parameters(text: str) -> str:
    return mask(_PARAMETER.sub(_parameter, text))


def _parameter(match: re.Match[str]) -> str:
    return f"{match[1]}={_HIDDEN}" if is_secret(unquote_plus(match[1])) else match[0]


def _member(match: re.Match[str]) -> str:
    if not is_secret(match[1][1:-1]) or match[3] in ("null", "true", "false"):
        return match[0]
    return f'{match[1]}{match[2]}"{_HIDDEN}"'
