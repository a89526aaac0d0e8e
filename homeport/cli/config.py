"""`homeport config check`: what is set, and by what."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.table import Table

from common.settings import Explained, Settings, SettingsError, explain
from homeport.cli.output import cell, emit, json_option, report, show_table
from homeport.settings import ALL_SETTINGS

__all__ = ["config"]

_PROCESSES: dict[str, type[Settings]] = {settings.section: settings for settings in ALL_SETTINGS}


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@click.argument("process", nargs=-1, type=click.Choice(list(_PROCESSES)))
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--all", "everything", is_flag=True, help="Show the settings that have their defaults, too.")
@json_option
def check(process: tuple[str, ...], config: Path | None, everything: bool) -> None:
    """Check the TOML file and the environment, and show what they set.

    With PROCESS (relay, api, agent, up, client) also that the process could start: everything that it needs is given.
    """
    found: dict[str, list[Explained]] = {}
    missing: dict[str, list[str]] = {}
    for name in process or tuple(_PROCESSES):
        try:
            found[name] = explain(_PROCESSES[name], config=config, environ=os.environ, overrides={}, known=ALL_SETTINGS)
        except SettingsError as exc:
            if process or not all(problem.missing for problem in exc.problems):
                report(exc)
                click.get_current_context().exit(1)
            missing[name] = [problem.where for problem in exc.problems]
    result = {
        "settings": {
            name: {each.field.name: {"value": each.value, "source": each.source} for each in items}
            for name, items in found.items()
        },
        "missing": missing,
    }
    emit(result, lambda: _show(found, missing, everything))


def _show(found: dict[str, list[Explained]], missing: dict[str, list[str]], everything: bool) -> None:
    for name, items in found.items():
        shown = [each for each in items if everything or each.source != "default"]
        click.echo(f"{name}: " + ("" if shown else "defaults"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 2))
        for each in shown:
            table.add_row(each.field.name, cell(each.value), each.source)
        if shown:
            show_table(table)
    for name, wanted in missing.items():
        click.echo(f"{name}: could not start yet; it needs")
        for where in wanted:
            click.echo(f"  {where}")
