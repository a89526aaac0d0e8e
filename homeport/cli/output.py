"""How results and errors are shown: for people, or as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import HomeportError
from common.settings import SettingsError

__all__ = ["cell", "emit", "json_option", "report", "say", "show_facts", "show_rows", "show_table", "wants_json"]

F = TypeVar("F", bound=Callable[..., Any])

_KEY = "homeport.json"

_UNLIMITED = 10_000
"""Columns."""


def json_option(command: F) -> F:
    """The option `--json`. It is asked for by `wants_json`, not passed to the command."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.meta[_KEY] = value  # shared by all contexts of the call, so that the error boundary knows it, too

    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=remember,
        help="Write JSON, for scripts: the result to standard output, a problem to standard error.",
    )(command)


def wants_json() -> bool:
    """Whether the current command was called with `--json`."""
    return bool(click.get_current_context().meta.get(_KEY))


def show_rows(headings: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Write a list, for people.

    Args:
        headings: of its columns.
        rows: cells; None shows as nothing.
        nothing: what to say of an empty one.
    """
    listed = list(rows)
    if not listed:
        say(nothing)
        return
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in listed:
        table.add_row(*("" if each is None else cell(each) for each in row))
    show_table(table)


def show_facts(facts: Mapping[str, object]) -> None:
    """Write what is known of one thing, for people."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        table.add_row(name, cell("-" if value is None else value))
    show_table(table)


def show_table(table: Table) -> None:
    """Write a table, for people. It is as wide as it needs to be: half an id helps nobody."""
    # Made anew each time, so that standard output is the one in force now.
    Console(highlight=False, width=_UNLIMITED).print(table)


def say(text: str) -> None:
    """A remark to the person who called, on standard error; nothing with `--json`."""
    if not wants_json():
        click.echo(text, err=True)


def emit(result: object, show: Callable[[], None]) -> None:
    """Write a result.

    Args:
        result: what `--json` writes; whatever msgspec can encode.
        show: writes it for people.
    """
    if wants_json():
        click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    else:
        show()


def cell(text: object) -> Text:
    """Somebody else's text for a table or line: neither markup nor control characters have an effect."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)))


def report(exc: HomeportError) -> None:
    """Write an error to standard error."""
    if wants_json():
        click.echo(json.dumps(exc.problem(), ensure_ascii=False), err=True)
        return
    code = exc.problem()["code"]
    if isinstance(exc, SettingsError):
        click.echo("homeport: the settings are wrong:", err=True)
        for problem in exc.problems:
            click.echo(f"  {problem}", err=True)
    else:
        click.echo(f"homeport: {exc.detail} [{code}]", err=True)
    if exc.retry_after is not None:
        click.echo(f"homeport: try again in {exc.retry_after:g} s", err=True)
