"""What `homeport db`, `audit` and `custody` have in common: they work on the database itself, not through the API."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from api_server.custody.settings import CustodySettings
from api_server.db.settings import DatabaseSettings
from common.settings import load
from homeport.settings import ALL_SETTINGS, default_data_dir

__all__ = ["with_custody", "with_database"]

R = TypeVar("R")
S = TypeVar("S", bound=DatabaseSettings)

_FILE = click.Path(path_type=Path)


def with_database(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command the options that say where the database is, and one argument `settings` that they make."""
    return _with(DatabaseSettings, command)


def with_custody(command: Callable[..., R]) -> Callable[..., R]:
    """As `with_database`; the mirrors are named by the environment and the TOML file."""
    return _with(CustodySettings, command)


def _with(kind: type[S], command: Callable[..., R]) -> Callable[..., R]:
    options = [
        click.option("--data-dir", type=_FILE, help="Folder of the database and its keys. [HOMEPORT_DATA_DIR]"),
        click.option("--database-url-file", type=_FILE, help="File (mode 0600) with its URL. [HOMEPORT_DATABASE_URL]"),
        click.option("--config", type=_FILE, help="TOML file with settings."),
    ]

    @functools.wraps(command)
    def call(*, data_dir: Path | None, database_url_file: Path | None, config: Path | None, **rest: Any) -> R:
        given = {"data_dir": data_dir, "database_url_file": database_url_file}
        settings = load(kind, config=config, environ=os.environ, overrides=given, known=ALL_SETTINGS)
        if settings.data_dir is None:
            given["data_dir"] = default_data_dir(os.environ)
            settings = load(kind, config=config, environ=os.environ, overrides=given, known=ALL_SETTINGS)
        return command(settings=settings, **rest)

    for option in reversed(options):
        call = option(call)
    return call
