"""`run.json`: where a running `homeport up` can be reached. Written by the supervisor, read by the other commands."""

from __future__ import annotations

from pathlib import Path

import msgspec

from common.crypto.keyfiles import write_public
from homeport.errors import NotConfiguredError

__all__ = ["ADMIN_TOKEN", "RUN_FILE", "Run", "read_run_file", "write_run_file"]

RUN_FILE = "run.json"
ADMIN_TOKEN = "admin-token"  # noqa: S105  # the file's name

_MAX_SIZE = 64 * 1024


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A running Homeport. URLs are base URLs without a slash at the end; `tunnel` is dialled as it is."""

    api: str
    gateway: str
    tunnel: str
    internal: str
    issuer: str | None
    """Of the identity provider; null where nobody can sign in."""
    pid: int
    """Of the supervisor: SIGTERM to it stops everything."""
    team: str
    demo_device: str | None
    """Null without a demo device."""
    demo_service: str | None


def write_run_file(folder: Path, run: Run) -> None:
    """Write it whole, in one step.

    Raises:
        KeyFileError: the disk refuses.
    """
    text = msgspec.json.format(msgspec.json.encode(run), indent=2).decode()
    write_public(folder / RUN_FILE, text + "\n")


def read_run_file(folder: Path) -> Run:
    """What runs with that data directory.

    Raises:
        NotConfiguredError: nothing does, or the file is none of ours.
    """
    path = folder / RUN_FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_SIZE), type=Run)
    except FileNotFoundError:
        raise NotConfiguredError(
            f"no `homeport up` runs with the data directory {folder}: start it, name another by --data-dir, or give "
            "--api and --token-file"
        ) from None
    except OSError as exc:
        raise NotConfiguredError(f"{path} cannot be read: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise NotConfiguredError(f"{path} is not what `homeport up` writes: {exc}") from exc
