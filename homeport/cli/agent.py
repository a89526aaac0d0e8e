"""`homeport agent`: run the agent, or give this device a credential first, by `pair` or `login`."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from common.crypto.api_tokens import PAIRING_TOKEN_PREFIX, checksum_holds
from common.crypto.keyfiles import read_secret
from common.ids import is_name
from common.secret import Secret
from edge_agent.settings import AgentSettings, default_agent_dir
from homeport.cli.output import emit, json_option, say
from homeport.cli.processes import exit_with, with_settings
from homeport.errors import NotConfiguredError

if TYPE_CHECKING:
    from edge_agent.pairing import ApiClient, Credential, CredentialStore

__all__ = ["agent"]

_FILE = click.Path(path_type=Path)


@click.group(invoke_without_command=True)
@json_option
@with_settings(AgentSettings)
def agent(settings: AgentSettings) -> None:
    """Run the agent, which dials home and offers services of this device.

    \b
      homeport agent pair --api https://homeport.example --token hpp_...
      homeport agent --service web=http://127.0.0.1:8000 --service ssh=tcp://127.0.0.1:22

    A device that is not paired needs a relay and a session token:

    \b
      homeport agent --relay wss://relay.example/tunnel --token-file session-token \\
          --service web=http://127.0.0.1:8000
    """
    from edge_agent.app import run

    exit_with(run(settings))


def _enrolling(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both ways in share."""
    for option in reversed(
        [
            click.option("--api", "api_url", metavar="URL", required=True, help="Base URL of the API."),
            click.option(
                "--name",
                help="What the device wants to be called; by default what the token says, or this machine's host name.",
            ),
            click.option(
                "--data-dir",
                type=_FILE,
                envvar="HOMEPORT_DATA_DIR",
                help="Folder that gets key and credential; by default $XDG_DATA_HOME/homeport-agent.",
            ),
            click.option("--ca-file", type=_FILE, help="Certificates (PEM) to trust for the API."),
            click.option("--replace", is_flag=True, help="Also when the folder holds a credential."),
            json_option,
        ]
    ):
        command = option(command)
    return command


@agent.command()
@click.option("--token", metavar="hpp_...", envvar="HOMEPORT_PAIRING_TOKEN", help="The pairing token.")
@click.option("--token-file", type=_FILE, help="File (mode 0600) with the pairing token.")
@_enrolling
def pair(
    token: str | None,
    token_file: Path | None,
    api_url: str,
    name: str | None,
    data_dir: Path | None,
    ca_file: Path | None,
    replace: bool,
) -> None:
    """Pair this device with a pairing token.

    Somebody of the team makes the token: `homeport pairing-tokens create`. If the command fails on its way, run it
    again: the device is given the same credential, and the token is spent once.
    """
    from edge_agent.pairing import pair as pair_device

    if token_file is not None:
        shown = read_secret(token_file)
    elif token is not None:
        shown = Secret(token)
    else:
        raise click.UsageError("give the pairing token by --token, by --token-file, or in HOMEPORT_PAIRING_TOKEN")
    if not checksum_holds(shown.reveal(), PAIRING_TOKEN_PREFIX):
        raise NotConfiguredError("that is not a pairing token; was it cut off? It is hpp_ and 49 characters")
    store, client = _store(data_dir), _client(api_url, ca_file)

    async def work() -> Credential:
        try:
            wanted = None if name is None else _wanted(name)
            host = _host_name()
            return await pair_device(store, client, shown, wanted, otherwise=host, replace=replace, say=say)
        finally:
            await client.aclose()

    _tell(trio.run(work), store.folder)


@agent.command()
@_enrolling
def login(api_url: str, name: str | None, data_dir: Path | None, ca_file: Path | None, replace: bool) -> None:
    """Pair this device by showing a code, which somebody of the team approves in a browser."""
    from edge_agent.app import software
    from edge_agent.pairing import login as log_in
    from edge_agent.pairing.client import DeviceCodes

    store, client = _store(data_dir), _client(api_url, ca_file)

    def show(codes: DeviceCodes, thumbprint: str) -> None:
        click.echo(f"open {codes.verification_uri} in a browser and enter the code {codes.user_code}", err=True)
        click.echo(f"  or open {codes.verification_uri_complete}", err=True)
        click.echo(f"compare the key that it shows: {thumbprint}", err=True)
        click.echo(f"waiting for somebody to approve, for {codes.expires_in / 60:.0f} minutes", err=True)

    async def work() -> Credential:
        try:
            about = f"{software()} {platform.system()} {platform.machine()}"
            return await log_in(store, client, _wanted(name), about, show=show, replace=replace, say=say)
        finally:
            await client.aclose()

    _tell(trio.run(work), store.folder)


def _store(data_dir: Path | None) -> CredentialStore:
    from edge_agent.pairing import CredentialStore

    return CredentialStore(data_dir if data_dir is not None else default_agent_dir(os.environ))


def _client(api_url: str, ca_file: Path | None) -> ApiClient:
    from edge_agent.app import software
    from edge_agent.pairing import ApiClient
    from edge_agent.tls import client_context

    trusted = client_context(ca_file) if api_url.startswith("https:") else None
    return ApiClient(api_url, ssl_context=trusted, software=software())


def _wanted(name: str | None) -> str:
    """The name to ask for; this machine's own, as far as it can be one.

    Raises:
        NotConfiguredError: it cannot.
    """
    wanted = name if name is not None else _host_name()
    if not is_name(wanted):
        raise NotConfiguredError(f"{wanted!r} is no name for a device: lower-case letters, digits, single hyphens")
    return wanted


def _host_name() -> str:
    """This machine's name, as far as it can be one of a device."""
    return re.sub("[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:40].rstrip("-")


def _tell(credential: Credential, folder: Path) -> None:
    about = {
        "device": credential.device,
        "name": credential.name,
        "team": credential.team,
        "tunnel_url": credential.tunnel_url,
        "expires_at": credential.expires_at,
        "folder": str(folder),
    }
    emit(about, lambda: click.echo(f"paired as {credential.name} in the team {credential.team}; see {folder}"))
    where = "" if folder == default_agent_dir(os.environ) else f" --data-dir {folder}"
    say(f"now run: homeport agent{where} --service web=http://127.0.0.1:8000")
