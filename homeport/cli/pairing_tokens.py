"""`homeport pairing-tokens`: what lets a new device in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from common.crypto.keyfiles import write_secret
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment, parse_duration
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["pairing_tokens"]


@click.group("pairing-tokens")
def pairing_tokens() -> None:
    """Make, list and withdraw pairing tokens, with which devices enrol."""


@pairing_tokens.command()
@click.option("--name", help="What the device will be called; with several uses, what the names begin with.")
@click.option("--uses", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many devices.")
@click.option("--expires-in", metavar="TIME", callback=parse_duration, help="How long it holds: 15m, 24h, 7d.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write the token to, with mode 0600."
)
@with_connection()
@json_option
def create(name: str | None, uses: int, expires_in: int | None, output: Path | None, connection: Connection) -> None:
    """Make a pairing token. It is shown this once; by default it is good for one device and for 15 minutes."""
    with connection.client() as client:
        body = {"team": connection.team, "name": name, "uses": uses, "expires_in": expires_in}
        made = client.ask("POST", "pairing-tokens", body=body, of_team=False)
    token = made.pop("token")
    if output is not None:
        write_secret(output, token + "\n")
        emit(made | {"output": str(output)}, lambda: say(f"wrote the pairing token to {output}"))
    else:
        emit(made | {"token": token}, lambda: click.echo(token))
    say(f"it expires {moment(made['expires_at'], time.time())}; on the device:")
    shown = f"--token-file {output.name}" if output is not None else "--token hpp_..."
    say(f"  homeport agent pair --api {connection.api} {shown}")


@pairing_tokens.command("list")
@with_connection()
@json_option
def list_tokens(connection: Connection) -> None:
    """List the pairing tokens of a team, the spent ones included."""
    with connection.client() as client:
        items = client.pages("pairing-tokens")
    now = time.time()
    rows = [
        (each["id"], each["start"] + "...", _state(each, now), f"{each['used']} of {each['uses']}", each["reuse_count"])
        for each in items
    ]
    headings = ("ID", "TOKEN", "STATE", "USED", "SHOWN AGAIN")
    emit({"items": items}, lambda: show_rows(headings, rows, f"team {connection.team} has no pairing token"))


@pairing_tokens.command()
@click.argument("token_id")
@with_connection()
@json_option
def show(token_id: str, connection: Connection) -> None:
    """Show a pairing token, without the token itself. TOKEN_ID is ppt_..."""
    with connection.client() as client:
        found = client.ask("GET", "pairing-tokens", token_id)
    now = time.time()
    emit(
        found,
        lambda: show_facts(
            {
                "id": found["id"],
                "token": found["start"] + "...",
                "state": _state(found, now),
                "device name": found["name"],
                "used": f"{found['used']} of {found['uses']}, last {moment(found['last_used_at'], now)}",
                "shown again": f"{found['reuse_count']} times, last {moment(found['last_reuse_at'], now)}",
                "expires": moment(found["expires_at"], now),
                "created": f"{moment(found['created_at'], now)} by {found['created_by']}",
            }
        ),
    )


@pairing_tokens.command()
@click.argument("token_id")
@with_connection()
@json_option
def revoke(token_id: str, connection: Connection) -> None:
    """Withdraw a pairing token. Devices that have come with it stay. TOKEN_ID is ppt_..."""
    with connection.client() as client:
        client.ask("DELETE", "pairing-tokens", token_id)
    emit({"revoked": token_id}, lambda: say(f"{token_id} is withdrawn"))


def _state(token: Any, now: float) -> str:
    if token["revoked_at"] is not None:
        return "withdrawn"
    if token["used"] >= token["uses"]:
        return "used up"
    return "expired" if token["expires_at"] <= now else f"open, expires {moment(token['expires_at'], now)}"
