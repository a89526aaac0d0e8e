"""`homeport forward`."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop

from common.process import ignore_stop_signals, on_stop_signals
from homeport.cli.connection import Connection, with_connection
from homeport.cli.output import emit, json_option, report, say
from homeport.errors import ForwardError, NotConfiguredError
from homeport.forward.forwarder import Dialer, forward_port, forward_stdio
from homeport.forward.handshake import GatewayUrl, Target

__all__ = ["forward"]


def _parse_target(_context: click.Context, _parameter: click.Parameter, value: str) -> Target:
    try:
        return Target.parse(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _parse_address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.BadParameter(f"{value!r} is no address: write 127.0.0.1:2222, [::1]:2222 or 2222")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


@click.command()
@click.argument("target", callback=_parse_target, metavar="TEAM/DEVICE/SERVICE")
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    callback=_parse_address,
    default="127.0.0.1:0",
    help="Local address; without it any free port of loopback.",
)
@click.option("--stdio", is_flag=True, help="Join standard input and output instead, as ssh's ProxyCommand wants it.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Certificates (PEM) to check the gateway against.")
@with_connection(gateway=True, team=False)
@json_option
def forward(
    target: Target,
    listen: tuple[str, int],
    stdio: bool,
    ca_file: Path | None,
    connection: Connection,
) -> None:
    """Bring a TCP service of a device to a local port.

    Each connection to it becomes a stream of its own to the service, until Ctrl-C.

    \b
      homeport forward home/nas/ssh --listen 2222      then: ssh -p 2222 localhost
      ssh -o ProxyCommand='homeport forward --stdio home/nas/ssh' nas
    """
    dialer = _dialer(connection, target, ca_file)
    work = forward_stdio(dialer, 0, 1) if stdio else _forward_port(dialer, *listen)
    uvloop.run(_until_signal(work))


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run until it is done or the person has had enough; both are a good end."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    on_stop_signals(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        ignore_stop_signals()


async def _forward_port(dialer: Dialer, host: str, port: int) -> None:
    def tell_listening(addresses: list[str]) -> None:
        def show() -> None:
            for address in addresses:
                click.echo(f"{address} is {dialer.target} now; Ctrl-C ends that")

        emit({"listen": addresses, "target": str(dialer.target), "gateway": str(dialer.gateway)}, show)
        if not _is_loopback(host):
            say(f"homeport: whoever can connect to {host} reaches {dialer.target} with your token's rights")

    def tell_refused(client: str, exc: ForwardError) -> None:
        say(f"{client}:")
        report(exc)

    await forward_port(dialer, host, port, on_listening=tell_listening, on_refused=tell_refused)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _dialer(connection: Connection, target: Target, ca_file: Path | None) -> Dialer:
    try:
        url = GatewayUrl.parse(connection.gateway)
        tls = ssl.create_default_context(cafile=ca_file) if url.tls else None
    except ValueError as exc:
        raise NotConfiguredError(f"{connection.gateway} is no URL of a gateway: {exc}") from exc
    except OSError as exc:  # ssl.SSLError is one
        raise NotConfiguredError(f"{ca_file} holds no certificates: {exc.strerror or exc}") from exc
    return Dialer(gateway=url, target=target, token=connection.token_for(connection.gateway), tls=tls)
