"""`homeport devices`: what a device needs to dial in."""

from __future__ import annotations

import time
from pathlib import Path

import click

from common.crypto.keyfiles import write_secret
from homeport.api_client import ApiClient
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import ago, parse_duration
from homeport.cli.output import emit, json_option, say

__all__ = ["devices"]


@click.group()
def devices() -> None:
    """Give devices what they need to dial in."""


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

    The token is shown this once: on standard output, or in the file that --output names.
    """
    with ApiClient(connection.api, connection.token_for(connection.api), connection.team) as client:
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
