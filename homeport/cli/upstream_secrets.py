"""`homeport upstream-secrets`: what routes show to services and backends. Values go in, and never come out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from common.crypto.keyfiles import check_private
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["upstream_secrets"]

_VALUE_FILE = click.option(
    "--value-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (mode 0600) with the value; without it the value is read from standard input.",
)


@click.group("upstream-secrets")
def upstream_secrets() -> None:
    """Keep what routes show to services and backends."""


@upstream_secrets.command("list")
@with_connection()
@json_option
def list_secrets(connection: Connection) -> None:
    """List the upstream secrets of a team, without their values."""
    with connection.client() as client:
        items = client.pages("upstream-secrets")
    now = time.time()
    rows = [(each["name"], each["destination"], moment(each["updated_at"], now), each["id"]) for each in items]
    emit(
        {"items": items},
        lambda: show_rows(("NAME", "FOR", "CHANGED", "ID"), rows, f"team {connection.team} has no upstream secret"),
    )


@upstream_secrets.command()
@click.argument("secret")
@with_connection()
@json_option
def show(secret: str, connection: Connection) -> None:
    """Show SECRET, without its value."""
    with connection.client() as client:
        found = client.ask("GET", "upstream-secrets", secret)
    now = time.time()
    facts = {
        "name": found["name"],
        "id": found["id"],
        "team": found["team"],
        "for": found["destination"],
        "version": found["version"],
        "created": f"{moment(found['created_at'], now)} by {found['created_by']}",
        "changed": moment(found["updated_at"], now),
    }
    emit(found, lambda: show_facts(facts))


@upstream_secrets.command()
@click.argument("name")
@click.argument("destination")
@_VALUE_FILE
@with_connection()
@json_option
def create(name: str, destination: str, value_file: Path | None, connection: Connection) -> None:
    """Keep a secret called NAME for DESTINATION alone: https://host[:port], device:NAME/SERVICE or label:NAME/SERVICE.

    The value never stands on the command line, where others on the machine could read it.
    """
    body = {"team": connection.team, "name": name, "destination": destination, "value": _value(value_file)}
    with connection.client() as client:
        made = client.ask("POST", "upstream-secrets", body=body, of_team=False)
    emit(made, lambda: say(f"kept {name}, for {made['destination']}"))


@upstream_secrets.command()
@click.argument("secret")
@_VALUE_FILE
@with_connection()
@json_option
def replace(secret: str, value_file: Path | None, connection: Connection) -> None:
    """Give SECRET another value."""
    with connection.client() as client:
        changed = client.ask("PATCH", "upstream-secrets", secret, body={"value": _value(value_file)})
    emit(changed, lambda: say(f"{changed['name']} has version {changed['version']}"))


@upstream_secrets.command()
@click.argument("secret")
@with_connection()
@json_option
def delete(secret: str, connection: Connection) -> None:
    """Delete SECRET, which no route shows."""
    with connection.client() as client:
        client.ask("DELETE", "upstream-secrets", secret)
    emit({"deleted": secret}, lambda: say(f"{secret} is deleted"))


def _value(value_file: Path | None) -> str:
    if value_file is not None:
        check_private(value_file)
        return value_file.read_text().removesuffix("\n")
    if sys.stdin.isatty():
        shown: str = click.prompt("Value", hide_input=True, err=True)
        return shown
    return sys.stdin.read().removesuffix("\n")
