"""`homeport tokens`: the API tokens that programs show."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from common.crypto.keyfiles import write_secret
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment, parse_duration
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["tokens"]


def _writable(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Callback of `--output`. Before the API is asked: what it shows once must not be lost for want of a folder."""
    if value is not None and not os.access(value.resolve().parent, os.W_OK | os.X_OK):
        raise click.BadParameter(f"nothing can be written to the folder {value.resolve().parent}")
    return value


_OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_writable,
    help="File to write the token to, with mode 0600.",
)


@click.group()
def tokens() -> None:
    """Make, list, rotate and revoke API tokens, for programs."""


@tokens.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may do; may be given several times.")
@click.option("--expires-in", metavar="TIME", callback=parse_duration, help="How long it holds: 24h, 90d.")
@click.option("--from", "addresses", multiple=True, metavar="NETWORK", help="Where it may be used from: 10.0.0.0/8.")
@click.option("--description", help="For people.")
@_OUTPUT
@with_connection()
@json_option
def create(
    name: str,
    scopes: Sequence[str],
    expires_in: int | None,
    addresses: Sequence[str],
    description: str | None,
    output: Path | None,
    connection: Connection,
) -> None:
    """Make an API token. It is shown this once, and may do what its scopes say: nothing without any."""
    with connection.client() as client:
        body = {
            "team": connection.team,
            "name": name,
            "description": description,
            "scopes": list(scopes),
            "expires_in": expires_in,
            "addresses": list(addresses),
        }
        made = client.ask("POST", "api-tokens", body=body, of_team=False)
    _hand_out(made, output)
    if not scopes:
        say("it has no scope, and so may do nothing")


@tokens.command("list")
@with_connection()
@json_option
def list_tokens(connection: Connection) -> None:
    """List the API tokens of a team, those that have ended included."""
    with connection.client() as client:
        items = client.pages("api-tokens")
    now = time.time()
    rows = [
        (
            each["id"],
            each["name"],
            each["start"] + "...",
            _state(each, now),
            moment(each["last_used_at"], now),
            " ".join(each["scopes"]),
        )
        for each in items
    ]
    headings = ("ID", "NAME", "TOKEN", "STATE", "LAST USED", "SCOPES")
    emit({"items": items}, lambda: show_rows(headings, rows, f"team {connection.team} has no API token"))


@tokens.command()
@click.argument("token_id")
@with_connection()
@json_option
def show(token_id: str, connection: Connection) -> None:
    """Show an API token, without the token itself. TOKEN_ID is tok_..."""
    with connection.client() as client:
        found = client.ask("GET", "api-tokens", token_id)
    now = time.time()
    previous = found["previous_expires_at"]
    held = None if previous is None or previous <= now else f"holds, ends {moment(previous, now)}"
    emit(
        found,
        lambda: show_facts(
            {
                "id": found["id"],
                "name": found["name"],
                "description": found["description"] or None,
                "token": found["start"] + "...",
                "state": _state(found, now),
                "scopes": " ".join(found["scopes"]) or None,
                "used from": " ".join(found["addresses"]) or "anywhere",
                "last used": moment(found["last_used_at"], now),
                "the one before": held,
                "rights of": found["issuer"],
                "created": f"{moment(found['created_at'], now)} by {found['created_by']}",
            }
        ),
    )


@tokens.command()
@click.argument("token_id")
@click.option(
    "--overlap", metavar="TIME", callback=parse_duration, help="How long the old one holds as well: 0 to 30d; 24h."
)
@click.option("--expires-in", metavar="TIME", callback=parse_duration, help="How long the new one holds.")
@_OUTPUT
@with_connection()
@json_option
def rotate(
    token_id: str, overlap: int | None, expires_in: int | None, output: Path | None, connection: Connection
) -> None:
    """Replace an API token by a new one of the same id, name and scopes. It is shown this once. TOKEN_ID is tok_..."""
    with connection.client() as client:
        made = client.ask("POST", "api-tokens", token_id, "rotate", body={"overlap": overlap, "expires_in": expires_in})
    _hand_out(made, output)
    previous = made["previous_expires_at"]
    ends = "is refused from now on" if previous is None else f"ends {moment(previous, time.time())}"
    say(f"the old one {ends}")


@tokens.command()
@click.argument("token_id")
@with_connection()
@json_option
def revoke(token_id: str, connection: Connection) -> None:
    """Revoke an API token, and those that it has made. What it has open is cut. TOKEN_ID is tok_..."""
    with connection.client() as client:
        client.ask("DELETE", "api-tokens", token_id)
    emit({"revoked": token_id}, lambda: say(f"{token_id} is revoked"))


def _hand_out(made: dict[str, Any], output: Path | None) -> None:
    """Show or write what is shown only now."""
    token = made.pop("token")
    if output is not None:
        write_secret(output, token + "\n")
        emit(made | {"output": str(output)}, lambda: say(f"wrote the API token {made['id']} to {output}"))
    else:
        emit(made | {"token": token}, lambda: click.echo(token))
        say(f"its id is {made['id']}")


def _state(token: Any, now: float) -> str:
    if token["revoked_at"] is not None:
        return "revoked"
    if token["expires_at"] is None:
        return "holds"
    if token["expires_at"] <= now:
        return "expired"
    return f"{'EXPIRES' if token['expires_soon'] else 'expires'} {moment(token['expires_at'], now)}"
