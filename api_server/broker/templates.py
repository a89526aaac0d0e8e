"""Values with references to fields of a secret: `$key_1`, `${client_id}`; `$$` is a dollar sign.

    value     = *( text / "$$" / "$" name / "${" name "}" )
    name      = [a-z_] *[a-z0-9_]

A template is data: it is split once into texts and names, a name is looked up in one mapping, and nothing else can be
reached by it. A lone `$` is an error, so that a misspelt reference is not sent to a provider as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from api_server.broker.errors import RealmInvalidError

__all__ = ["NUMBERED", "is_field_name", "references", "rendered"]

NUMBERED = ("key_1", "key_2", "key_3", "key_4", "key_5")
"""Fields that every secret may have; others are named by the realm."""

_PIECE = re.compile(r"(?P<text>[^$]+)|\$(?:(?P<dollar>\$)|(?P<name>[a-z_][a-z0-9_]*)|\{(?P<braced>[a-z_][a-z0-9_]*)\})")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}", re.ASCII)


def is_field_name(text: str) -> bool:
    """Whether `text` can name a field of a secret."""
    return _NAME.fullmatch(text) is not None


def references(template: str) -> list[str]:
    """The fields that a template refers to.

    Raises:
        RealmInvalidError: it is none.
    """
    return [name for text, name in _split(template) if name is not None]


def rendered(template: str, fields: Mapping[str, str]) -> str:
    """The template with the values of its fields.

    Raises:
        RealmInvalidError: it is none.
        KeyError: a field is missing.
    """
    return "".join(text if name is None else fields[name] for text, name in _split(template))


def _split(template: str) -> list[tuple[str, str | None]]:
    """Texts, and names of fields."""
    pieces: list[tuple[str, str | None]] = []
    position = 0
    while position < len(template):
        match = _PIECE.match(template, position)
        if match is None:
            raise RealmInvalidError(f"a lone $ in a value, at character {position + 1}; write $$ for a dollar sign")
        if (name := match["name"] or match["braced"]) is not None:
            pieces.append(("", name))
        else:
            pieces.append((match["text"] or match["dollar"], None))
        position = match.end()
    return pieces
