"""`homeport realms`: how tokens are had from providers, and the tokens."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["realms"]

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.group()
def realms() -> None:
    """Make realms, by which tokens of providers are had; keep secrets in them; get the tokens."""


@realms.command("list")
@click.option("--keyword", default="", help="Part of an id or comment.")
@with_connection()
@json_option
def list_realms(keyword: str, connection: Connection) -> None:
    """List the realms of a team."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    with connection.client() as client:
        while True:
            query = {"keyword": keyword, "limit": "1000"} | ({} if cursor is None else {"cursor": cursor})
            page = client.ask("GET", "realm", query=query)
            items += page["data"]["list"]
            cursor = page["next"]
            if cursor is None:
                break
    rows = [(each["id"], _asks(each), each["comment"]) for each in items]
    nothing = f"team {connection.team} has no realm"
    emit({"items": items}, lambda: show_rows(("ID", "ASKS", "COMMENT"), rows, nothing))


@realms.command()
@click.argument("realm")
@with_connection()
@json_option
def show(realm: str, connection: Connection) -> None:
    """Show REALM, its secrets, and what its provider was asked last."""
    with connection.client() as client:
        found = client.ask("GET", "realm", realm)
        secrets = client.ask("GET", "secret", query={"realm": realm, "limit": "1000"})["data"]["list"]
        fetches = client.ask("GET", "realm", realm, "fetches", query={"limit": "5"})["items"]
    now = time.time()

    def show_all() -> None:
        show_facts(
            {
                "id": found["id"],
                "team": found["team"],
                "comment": found["comment"] or "-",
                "asks": _asks(found),
                "secrets": ", ".join(each["key"] for each in secrets) or "-",
                "version": found["version"],
                "changed": moment(found["updated_at"], now),
            }
        )
        rows = [
            (each["key"], moment(each["started_at"], now), each["reason"], each["outcome"], each["code"])
            for each in fetches
        ]
        show_rows(("KEY", "ASKED", "BECAUSE", "CAME OF IT", "CODE"), rows, "its provider was not asked yet")

    emit({**found, "secrets": secrets, "fetches": fetches}, show_all)


@realms.command()
@click.argument("file", type=_FILE)
@with_connection()
@json_option
def create(file: Path, connection: Connection) -> None:
    """Make the realm that FILE describes: JSON with `id`, `comment` and `config`; - for standard input."""
    body = {**_read(file), "team": connection.team}
    with connection.client() as client:
        made = client.ask("POST", "realm", body=body, of_team=False)
    emit(made, lambda: say(f"made the realm {made['id']}"))


@realms.command()
@click.argument("realm")
@with_connection()
@json_option
def delete(realm: str, connection: Connection) -> None:
    """Delete REALM with its secrets and tokens."""
    with connection.client() as client:
        client.ask("DELETE", "realm", realm)
    emit({"deleted": realm}, lambda: say(f"deleted the realm {realm}"))


@realms.command("add-secret")
@click.argument("realm")
@click.argument("key")
@click.argument("file", type=_FILE)
@with_connection()
@json_option
def add_secret(realm: str, key: str, file: Path, connection: Connection) -> None:
    """Keep a secret KEY in REALM; FILE is JSON: key_1 to key_5, and `fields` by name; - for standard input.

    The values are not shown again.
    """
    body = {**_read(file), "realm": realm, "key": key, "team": connection.team}
    with connection.client() as client:
        made = client.ask("POST", "secret", body=body, of_team=False)
    emit(made, lambda: say(f"kept the secret {key} in {realm}, for {made['provider'] or 'nobody'}"))


@realms.command("delete-secret")
@click.argument("realm")
@click.argument("key")
@with_connection()
@json_option
def delete_secret(realm: str, key: str, connection: Connection) -> None:
    """Delete the secret KEY of REALM, and its token."""
    with connection.client() as client:
        client.ask("DELETE", "secret", realm, key)
    emit({"deleted": f"{realm}/{key}"}, lambda: say(f"deleted the secret {key} of {realm}"))


@realms.command()
@click.argument("realm")
@click.option("--answer", type=_FILE, help="File with an answer of the provider, to be read as the realm says.")
@click.option("--status", type=click.IntRange(100, 599), default=200, show_default=True, help="Of that answer.")
@with_connection()
@json_option
def test(realm: str, answer: Path | None, status: int, connection: Connection) -> None:
    """Show what REALM would send, with secrets masked, and what it makes of an answer. Nobody is asked."""
    body = {} if answer is None else {"answer": {"status": status, "body": _text(answer)}}
    with connection.client() as client:
        found = client.ask("POST", "realm", realm, "test", body=body)

    def show_it() -> None:
        sent, read = found["request"], found["answer"]
        if sent is None:
            say("it asks nobody: the token is fixed")
        else:
            facts = {"request": f"{sent['method']} {sent['url']}", **sent["headers"], "body": sent["body"]}
            show_facts(facts)
        say(f"a secret needs: {', '.join(found['fields']) or 'nothing'}")
        if read is not None:
            show_facts(read)

    emit(found, show_it)


@realms.command()
@click.argument("realm")
@click.argument("key")
@click.option("--flush", is_flag=True, help="Have it fetched anew; the old one is not handed out again.")
@with_connection()
@json_option
def token(realm: str, key: str, flush: bool, connection: Connection) -> None:
    """Get the token that KEY of REALM gives; it alone is written to standard output."""
    query = {"realm": realm, "key": key} | ({"flush": "true"} if flush else {})
    with connection.client() as client:
        got = client.ask("GET", "token", query=query)

    def show_it() -> None:
        click.echo(got["token"])
        until = "without an end" if got["expires_at"] is None else f"ends {moment(got['expires_at'], time.time())}"
        say(f"{got['token_type']}, {until}, from the {'provider' if got['source'] == 'upstream' else 'database'}")

    emit(got, show_it)


def _asks(realm: dict[str, Any]) -> str:
    config = realm["config"]
    return "nobody: the token is fixed" if config["kind"] == "fixed" else f"{config['method']} {config['url']}"


def _text(file: Path) -> str:
    return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(file))
    except ValueError as exc:
        raise click.UsageError(f"{file} is no JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise click.UsageError(f"{file} is no JSON object")
    return found
