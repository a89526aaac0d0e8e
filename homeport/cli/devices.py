"""`homeport devices`: the devices of a team, and what they dial in with. A device is named by its id or its name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from common.crypto.keyfiles import write_secret
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import ago, moment, parse_duration
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["devices"]


@click.group()
def devices() -> None:
    """List, register, change and delete devices; issue what they dial in with."""


@devices.command("list")
@click.option("--label", metavar="LABEL", help="Only devices that have this label.")
@with_connection()
@json_option
def list_devices(label: str | None, connection: Connection) -> None:
    """List the devices of a team."""
    with connection.client() as client:
        items = client.pages("devices", query=None if label is None else {"label": label})
    now = time.time()
    rows = [
        (each["name"], _state(each), moment(each["last_seen_at"], now), moment(each["created_at"], now), each["id"])
        for each in items
    ]
    emit(
        {"items": items},
        lambda: show_rows(
            ("NAME", "STATE", "LAST SEEN", "CREATED", "ID"), rows, f"team {connection.team} has no device"
        ),
    )


@devices.command()
@click.argument("device")
@with_connection()
@json_option
def show(device: str, connection: Connection) -> None:
    """Show DEVICE, and the session tokens of it that hold."""
    with connection.client() as client:
        found = client.ask("GET", "devices", device)
        tokens = client.ask("GET", "devices", device, "session-tokens")["items"]
    now = time.time()

    def show_one() -> None:
        show_facts(
            {
                "name": found["name"],
                "id": found["id"],
                "team": found["team"],
                "state": _state(found),
                "services": ", ".join(found["services"]) or "-",
                "labels": ", ".join(found["labels"]) or "-",
                "last seen": moment(found["last_seen_at"], now),
                "created": f"{moment(found['created_at'], now)} by {found['created_by']}",
            }
        )
        rows = [(each["id"], each["kind"], moment(each["expires_at"], now), each["issued_by"]) for each in tokens]
        show_rows(("SESSION TOKEN", "KIND", "EXPIRES", "ISSUED BY"), rows, "it has no session token that holds")

    emit({**found, "session_tokens": tokens}, show_one)


@devices.command()
@click.argument("name")
@click.option("--service", "services", multiple=True, metavar="NAME", help="What it will serve; may be repeated.")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="A label of it; may be repeated.")
@with_connection()
@json_option
def register(name: str, services: tuple[str, ...], labels: tuple[str, ...], connection: Connection) -> None:
    """Register a device called NAME without pairing, for a client that has no agent."""
    with connection.client() as client:
        body = {"team": connection.team, "name": name, "services": list(services), "labels": list(labels)}
        made = client.ask("POST", "devices", body=body, of_team=False)
    emit(made, lambda: say(f"registered {name}; its session tokens come from: homeport devices token {name}"))


@devices.command()
@click.argument("device")
@click.argument("name")
@with_connection()
@json_option
def rename(device: str, name: str, connection: Connection) -> None:
    """Call DEVICE NAME from now on."""
    _change(connection, device, {"name": name}, f"{device} is called {name}")


@devices.command()
@click.argument("device")
@click.argument("labels", nargs=-1)
@with_connection()
@json_option
def label(device: str, labels: tuple[str, ...], connection: Connection) -> None:
    """Give DEVICE these LABELS and no others; none takes all of them away. Routes lead to devices by their labels."""
    _change(connection, device, {"labels": list(labels)}, f"{device} has the labels {', '.join(labels) or '-'}")


@devices.command()
@click.argument("device")
@with_connection()
@json_option
def disable(device: str, connection: Connection) -> None:
    """Cut DEVICE off, and let it in no more until it is enabled."""
    _change(connection, device, {"disabled": True}, f"{device} is disabled")


@devices.command()
@click.argument("device")
@with_connection()
@json_option
def enable(device: str, connection: Connection) -> None:
    """Let DEVICE in again."""
    _change(connection, device, {"disabled": False}, f"{device} is enabled; start its agent again if it has stopped")


@devices.command()
@click.argument("device")
@with_connection()
@json_option
def revoke(device: str, connection: Connection) -> None:
    """Revoke the key of DEVICE and all its session tokens, and cut it off. It must be paired anew."""
    with connection.client() as client:
        changed = client.ask("POST", "devices", device, "revoke")
    emit(changed, lambda: say(f"{device} is revoked"))


@devices.command()
@click.argument("device")
@with_connection()
@json_option
def delete(device: str, connection: Connection) -> None:
    """Delete DEVICE, and cut it off."""
    with connection.client() as client:
        client.ask("DELETE", "devices", device)
    emit({"deleted": device}, lambda: say(f"{device} is deleted"))


@devices.command()
@click.argument("device")
@click.option("--expires-in", metavar="TIME", callback=parse_duration, help="Life of the token: 3600, 15m, 24h, 7d.")
@click.option("--service", metavar="NAME", help="The one service of a device that does not run the agent.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write the token to, with mode 0600."
)
@with_connection()
@json_option
def token(
    device: str,
    expires_in: int | None,
    service: str | None,
    output: Path | None,
    connection: Connection,
) -> None:
    """Issue a session token for DEVICE, with which it dials the relay.

    The token is shown this once: on standard output, or in the file that --output names. A device that is paired does
    not need it.
    """
    with connection.client() as client:
        issued = client.issue_session_token(device, expires_in=expires_in, service=service)
    about = {"id": issued.id, "device": device, "expires_at": issued.expires_at, "tunnel_url": issued.tunnel_url}
    life = ago(issued.expires_at - time.time())
    if output is not None:
        write_secret(output, issued.session_token + "\n")
        emit(about | {"output": str(output)}, lambda: say(f"wrote a session token for {device} to {output}"))
    else:
        emit(about | {"session_token": issued.session_token}, lambda: click.echo(issued.session_token))
    say(f"it is good for {life}; dial {issued.tunnel_url} with it, or run:")
    where = output if output is not None else "FILE"
    say(f"  homeport agent --relay {issued.tunnel_url} --token-file {where} --service web=http://127.0.0.1:8000")


@devices.command("revoke-token")
@click.argument("device")
@click.argument("token_id")
@with_connection()
@json_option
def revoke_token(device: str, token_id: str, connection: Connection) -> None:
    """Revoke one session token of DEVICE. TOKEN_ID is crd_..., as it was issued."""
    with connection.client() as client:
        client.ask("DELETE", "devices", device, "session-tokens", token_id)
    emit({"revoked": token_id}, lambda: say(f"{token_id} is revoked"))


def _change(connection: Connection, device: str, body: dict[str, object], done: str) -> None:
    with connection.client() as client:
        changed = client.ask("PATCH", "devices", device, body=body)
    emit(changed, lambda: say(done))


def _state(device: Any) -> str:
    if device["disabled_at"] is not None:
        return "disabled"
    return "paired" if device["paired"] else "registered"
