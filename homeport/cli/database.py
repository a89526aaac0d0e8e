"""What `homeport db` and `homeport audit` have in common: they work on the database itself, not through the API."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from api_server.db.settings import DatabaseSettings
from common.settings import load
from homeport.settings import ALL_SETTINGS, default_data_dir

__all__ = ["with_database"]

R = TypeVar("R")

_FILE = click.Path(path_type=Path)


def with_database(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command the options that say where the database is, and one argument `settings` that they make."""
    options = [
        click.option("--data-dir", type=_FILE, help="Folder of the database and its keys. [HOMEPORT_DATA_DIR]"),
        click.option("--database-url-file", type=_FILE, help="File (mode 0600) with its URL. [HOMEPORT_DATABASE_URL]"),
        click.option("--config", type=_FILE, help="TOML file with settings."),
    ]

    @functools.wraps(command)
    def call(*, data_dir: Path | None, database_url_file: Path | None, config: Path | None, **rest: Any) -> R:
        given = {"data_dir": data_dir, "database_url_file": database_url_file}
        settings = load(DatabaseSettings, config=config, environ=os.environ, overrides=given, known=ALL_SETTINGS)
        if settings.data_dir is None:
            given["data_dir"] = default_data_dir(os.environ)
            settings = load(DatabaseSettings, config=config, environ=os.environ, overrides=given, known=ALL_SETTINGS)
        return command(settings=settings, **rest)

    for option in reversed(options):
        call = option(call)
    return call
