"""`homeport db`: the schema of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from api_server.db.database import Database
from api_server.db.migrate import current as current_schema
from api_server.db.migrate import downgrade as downgrade_schema
from api_server.db.migrate import upgrade as upgrade_schema
from api_server.db.revisions import head
from api_server.db.settings import DatabaseSettings
from homeport.cli.database import with_database
from homeport.cli.output import emit, json_option

__all__ = ["db"]

T = TypeVar("T")


@click.group()
def db() -> None:
    """Upgrade the database's schema, and say which one it has."""


@db.command()
@click.option("--to", metavar="SCHEMA", default="head", help="Upgrade no further than this; the newest by default.")
@with_database
@json_option
def upgrade(to: str, settings: DatabaseSettings) -> None:
    """Bring the database to the schema of this version. An empty one gets its tables.

    Run it once, before the processes of the new version are started; back the database up before.
    """
    _report(*_run(settings, lambda database: upgrade_schema(database, to)))


@db.command()
@click.argument("to", metavar="SCHEMA")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_database
@json_option
def downgrade(to: str, yes: bool, settings: DatabaseSettings) -> None:
    """Bring the database back to an older schema, for an older version of Homeport.

    What the older schema has no place for is deleted. SCHEMA is a number as `homeport db current` shows it, or `base`
    for no tables at all.
    """
    if not yes:
        click.confirm("What the older schema has no place for is deleted. Go on?", abort=True, err=True)
    _report(*_run(settings, lambda database: downgrade_schema(database, to), must_exist=True))


@db.command()
@with_database
@json_option
def current(settings: DatabaseSettings) -> None:
    """Say which schema the database has, and which one this version needs."""
    found = _run(settings, current_schema, must_exist=True)
    text = "is empty" if found is None else f"has schema {found}"
    emit({"schema": found, "needed": head()}, lambda: click.echo(f"the database {text}; this version needs {head()}"))


def _run(settings: DatabaseSettings, work: Callable[[Database], Awaitable[T]], *, must_exist: bool = False) -> T:
    async def run() -> T:
        async with Database.connect(settings.database(), must_exist=must_exist) as database:
            return await work(database)

    return asyncio.run(run())


def _report(before: str | None, after: str | None) -> None:
    was, now = (revision or "no tables" for revision in (before, after))
    text = f"the database has schema {now}" + ("" if before == after else f"; it had {was}")
    emit({"before": before, "after": after}, lambda: click.echo(text))
