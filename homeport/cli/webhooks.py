"""`homeport webhooks`: where events of a team are sent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from common.crypto.keyfiles import write_secret
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment, parse_duration
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["webhooks"]

_EVENT = click.option(
    "--event", "events", multiple=True, metavar="EVENT", help="session.online, session.* or *; may be repeated."
)
_OUTPUT = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write the secret to, with mode 0600."
)


@click.group()
def webhooks() -> None:
    """Send events of a team to URLs: create, test, list what was sent, send it again."""


@webhooks.command("list")
@with_connection()
@json_option
def list_webhooks(connection: Connection) -> None:
    """List the webhooks of a team."""
    with connection.client() as client:
        items = client.pages("webhooks")
    rows = [(each["name"], _state(each), ", ".join(each["events"]), each["url"], each["id"]) for each in items]
    emit(
        {"items": items},
        lambda: show_rows(("NAME", "STATE", "EVENTS", "URL", "ID"), rows, f"team {connection.team} has no webhook"),
    )


@webhooks.command()
@click.argument("webhook")
@with_connection()
@json_option
def show(webhook: str, connection: Connection) -> None:
    """Show WEBHOOK (whk_...)."""
    with connection.client() as client:
        found = client.ask("GET", "webhooks", webhook)
    now = time.time()
    emit(
        found,
        lambda: show_facts(
            {
                "name": found["name"],
                "id": found["id"],
                "url": found["url"],
                "events": ", ".join(found["events"]),
                "state": _state(found),
                "failing since": moment(found["failing_since"], now) if found["failing_since"] else "-",
                "created": f"{moment(found['created_at'], now)} by {found['created_by']}",
            }
        ),
    )


@webhooks.command()
@click.argument("name")
@click.argument("url")
@_EVENT
@_OUTPUT
@with_connection()
@json_option
def create(name: str, url: str, events: tuple[str, ...], output: Path | None, connection: Connection) -> None:
    """Send events to URL, under a NAME; all events, unless --event says which.

    The secret that signatures are checked with is shown this once: on standard output, or in the file of --output.
    """
    body = {"team": connection.team, "name": name, "url": url, "events": list(events) or ["*"]}
    with connection.client() as client:
        made = client.ask("POST", "webhooks", body=body, of_team=False)
    _hand_out(made, output, f"created {made['id']}")


@webhooks.command()
@click.argument("webhook")
@click.option("--name", help="A new name.")
@click.option("--url", help="A new URL.")
@_EVENT
@with_connection()
@json_option
def change(webhook: str, name: str | None, url: str | None, events: tuple[str, ...], connection: Connection) -> None:
    """Change name, URL or events of WEBHOOK."""
    given: dict[str, object] = {"name": name, "url": url, "events": list(events) or None}
    _change(connection, webhook, {key: value for key, value in given.items() if value is not None}, "changed")


@webhooks.command()
@click.argument("webhook")
@with_connection()
@json_option
def disable(webhook: str, connection: Connection) -> None:
    """Send nothing by WEBHOOK until it is enabled."""
    _change(connection, webhook, {"disabled": True}, "disabled")


@webhooks.command()
@click.argument("webhook")
@with_connection()
@json_option
def enable(webhook: str, connection: Connection) -> None:
    """Send events by WEBHOOK again."""
    _change(connection, webhook, {"disabled": False}, "enabled")


@webhooks.command()
@click.argument("webhook")
@with_connection()
@json_option
def delete(webhook: str, connection: Connection) -> None:
    """Delete WEBHOOK, and what is on its way to it."""
    with connection.client() as client:
        client.ask("DELETE", "webhooks", webhook)
    emit({"deleted": webhook}, lambda: say(f"{webhook} is deleted"))


@webhooks.command("rotate-secret")
@click.argument("webhook")
@click.option(
    "--overlap",
    metavar="TIME",
    callback=parse_duration,
    default="24h",
    show_default=True,
    help="How long messages are signed with the old secret, too.",
)
@_OUTPUT
@with_connection()
@json_option
def rotate_secret(webhook: str, overlap: int, output: Path | None, connection: Connection) -> None:
    """Replace the secret of WEBHOOK, and show the new one."""
    with connection.client() as client:
        made = client.ask("POST", "webhooks", webhook, "rotate-secret", body={"overlap": overlap})
    _hand_out(made, output, f"the secret of {webhook} is replaced")


@webhooks.command()
@click.argument("webhook")
@with_connection()
@json_option
def test(webhook: str, connection: Connection) -> None:
    """Send the event webhook.test to WEBHOOK."""
    with connection.client() as client:
        sent = client.ask("POST", "webhooks", webhook, "test")
    emit(sent, lambda: say(f"{sent['id']} is on its way; see: homeport webhooks deliveries {webhook}"))


@webhooks.command()
@click.argument("webhook")
@click.option("--state", type=click.Choice(["pending", "delivered", "dead"]), help="Only those.")
@with_connection()
@json_option
def deliveries(webhook: str, state: str | None, connection: Connection) -> None:
    """List what was sent by WEBHOOK, the newest first."""
    with connection.client() as client:
        items = client.pages("webhooks", webhook, "deliveries", query={} if state is None else {"state": state})
    now = time.time()
    rows = [
        (
            moment(each["created_at"], now),
            each["type"],
            each["state"],
            each["attempts"],
            each["last_status"] if each["last_status"] is not None else each["last_error"],
            each["id"],
        )
        for each in items
    ]
    emit(
        {"items": items},
        lambda: show_rows(("WHEN", "EVENT", "STATE", "TRIES", "LAST", "ID"), rows, "nothing was sent"),
    )


@webhooks.command()
@click.argument("webhook")
@click.argument("delivery")
@with_connection()
@json_option
def retry(webhook: str, delivery: str, connection: Connection) -> None:
    """Send DELIVERY (dlv_...) of WEBHOOK again."""
    with connection.client() as client:
        sent = client.ask("POST", "webhooks", webhook, "deliveries", delivery, "retry")
    emit(sent, lambda: say(f"{delivery} is on its way again"))


def _change(connection: Connection, webhook: str, body: dict[str, object], done: str) -> None:
    with connection.client() as client:
        changed = client.ask("PATCH", "webhooks", webhook, body=body)
    emit(changed, lambda: say(f"{webhook} is {done}"))


def _hand_out(made: Any, output: Path | None, done: str) -> None:
    """Show a webhook and its secret."""
    secret = made["secret"]
    if output is not None:
        write_secret(output, secret + "\n")
        about = {name: value for name, value in made.items() if name != "secret"}
        emit(about | {"output": str(output)}, lambda: say(f"{done}; its secret is in {output}"))
        return
    emit(made, lambda: click.echo(secret))
    say(f"{done}; keep the secret, it is not shown again")


def _state(webhook: Any) -> str:
    if webhook["disabled_at"] is not None:
        return f"disabled ({webhook['disabled_reason']})"
    return "failing" if webhook["failing_since"] is not None else "active"
