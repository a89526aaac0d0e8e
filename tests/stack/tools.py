"""Other people's programs, by the name of their command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["MissingToolError", "tool"]

_PLACES = (*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin", "/usr/lib/git-core")


class MissingToolError(RuntimeError):
    """A program that a test needs is not on this machine."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(f"{name} is not on this machine: run `make {target}` as root, which installs it from Debian")


def tool(name: str, *, target: str = "test", places: tuple[str | Path, ...] = ()) -> str:
    """The path of a command.

    Args:
        name: of the command.
        target: the make target that installs it.
        places: folders to look in before those of PATH.

    Raises:
        MissingToolError: it is not there; the message says what installs it.
    """
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), *_PLACES]))
    if found is None:
        raise MissingToolError(name, target)
    return found
