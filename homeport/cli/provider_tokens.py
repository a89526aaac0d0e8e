"""`homeport provider-tokens`: access tokens of the providers that somebody has connected."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from common.crypto.keyfiles import write_secret
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["provider_tokens"]


@click.group("provider-tokens")
def provider_tokens() -> None:
    """See what you have connected at other providers, and get access tokens.

    With a token that a person has made (api_token_file), and its scopes provider_tokens:read, :use and :connect: the
    administration token acts for nobody. Connecting takes a browser.
    """


@provider_tokens.command("list")
@with_connection()
@json_option
def list_connections(connection: Connection) -> None:
    """List what you have connected in a team."""
    with connection.client() as client:
        items = client.pages("provider-tokens")
    now = time.time()
    rows = [
        (each["provider"], _state(each), each["account"], " ".join(each["scopes"]), _end(each, "access_token", now))
        for each in items
    ]
    headings = ("PROVIDER", "STATE", "ACCOUNT", "SCOPES", "ACCESS TOKEN EXPIRES")
    emit({"items": items}, lambda: show_rows(headings, rows, f"nothing is connected in team {connection.team}"))


@provider_tokens.command()
@with_connection()
@json_option
def providers(connection: Connection) -> None:
    """List the providers that can be connected, and where a browser does it."""
    with connection.client() as client:
        items = client.pages("providers")
    rows = [
        (each["id"], each["kind"], each["url"], f"{connection.api}/api/provider-tokens/{each['id']}/connect")
        for each in items
    ]
    emit({"items": items}, lambda: show_rows(("PROVIDER", "KIND", "URL", "CONNECT AT"), rows, "no provider is set up"))


@provider_tokens.command()
@click.argument("provider")
@with_connection()
@json_option
def show(provider: str, connection: Connection) -> None:
    """Show what you have connected at a provider, without its tokens."""
    with connection.client() as client:
        found = client.ask("GET", "provider-tokens", provider)
    now = time.time()
    emit(
        found,
        lambda: show_facts(
            {
                "provider": found["provider"],
                "state": _state(found),
                "account": found["account"],
                "scopes": " ".join(found["scopes"]),
                "connected": moment(found["connected_at"], now),
                "refreshed": moment(found["refreshed_at"], now),
                "access token expires": _end(found, "access_token", now),
                "refresh token": _end(found, "refresh_token", now) if found["refreshable"] else "none",
            }
        ),
    )


@provider_tokens.command("access-token")
@click.argument("provider")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write the token to, with mode 0600."
)
@with_connection()
@json_option
def access_token(provider: str, output: Path | None, connection: Connection) -> None:
    """Get an access token that lasts for a call at least; it is refreshed first when that is due.

    It is all that is written to the standard output: TOKEN=$(homeport provider-tokens access-token github).
    """
    with connection.client() as client:
        handed = client.ask("POST", "provider-tokens", provider, "access-token")
    token = handed.pop("access_token")
    if output is not None:
        write_secret(output, token + "\n")
        emit(handed | {"output": str(output)}, lambda: say(f"wrote the access token to {output}"))
    else:
        emit(handed | {"access_token": token}, lambda: click.echo(token))


@provider_tokens.command()
@click.argument("provider")
@with_connection()
@json_option
def disconnect(provider: str, connection: Connection) -> None:
    """Disconnect a provider: have it take back what it has granted, and forget it here."""
    with connection.client() as client:
        done = client.ask("DELETE", "provider-tokens", provider)
    emit(done, lambda: say(_ended(provider, done)))


def _ended(provider: str, done: Mapping[str, Any]) -> str:
    if done["revoked"]:
        return f"{provider} is disconnected, and has taken back what it had granted"
    if done["problem"] == "no_revocation":
        return f"{provider} is forgotten here; it has no way to take a grant back but its own pages: remove it there"
    return f"{provider} is forgotten here, but has taken nothing back ({done['problem']}): remove it there"


def _state(connection: Mapping[str, Any]) -> str:
    state = str(connection["state"]).replace("_", " ")
    return state if connection["problem"] is None else f"{state} ({connection['problem']})"


def _end(connection: Mapping[str, Any], token: str, now: float) -> str:
    expires_at = connection[f"{token}_expires_at"]
    return "never" if expires_at is None else moment(expires_at, now)
