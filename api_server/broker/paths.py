"""Where something stands in a provider's answer: a JSON Pointer (RFC 6901), or names with dots between.

/data/token     pointer: `~1` is a slash, `~0` a tilde
data.token      the same; for names without dots and slashes
data.0.token    an index of a list is a number
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from api_server.broker.errors import RealmInvalidError

__all__ = ["MISSING", "check_path", "look_up"]

MISSING: Final = object()
"""There is nothing at that path."""

_TILDE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def check_path(path: str) -> None:
    """Whether `path` is one.

    Raises:
        RealmInvalidError: it is not.
    """
    _steps(path)


def look_up(document: Any, path: str) -> Any:
    """What stands there; `MISSING` when nothing does.

    Args:
        document: as a JSON parser made it.
        path: for which `check_path` holds.
    """
    found = document
    for step in _steps(path):
        if isinstance(found, dict):
            found = found.get(step, MISSING)
        elif isinstance(found, list) and _INDEX.fullmatch(step) and int(step) < len(found):
            found = found[int(step)]
        else:
            return MISSING
        if found is MISSING:
            return MISSING
    return found


def _steps(path: str) -> Sequence[str]:
    if path.startswith("/"):
        if _TILDE.search(path):
            raise RealmInvalidError(f"{path!r} is no JSON pointer: ~ is followed by 0 or 1")
        return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    steps = path.split(".")
    if not all(steps):
        raise RealmInvalidError(f"{path!r} is no path: write data.token, or /data/token")
    return steps
