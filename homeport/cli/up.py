"""`homeport up`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from common.clock import SystemClock
from common.settings import load
from homeport.cli.output import emit, json_option
from homeport.run_file import Run
from homeport.settings import ALL_SETTINGS, UpSettings, default_data_dir
from homeport.up.banner import banner
from homeport.up.child import SUPERVISOR
from homeport.up.data_directory import DataDirectory
from homeport.up.log import LogPrinter
from homeport.up.plan import Plan, listeners
from homeport.up.ports import check_free
from homeport.up.supervisor import Supervisor

__all__ = ["up"]


def _port_option(name: str, help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    # Text as it is: settings check it, and say what they expect in the same words wherever it came from.
    return click.option(f"--{name}-port", type=click.UNPROCESSED, metavar="NUMBER", help=help_text)


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder for keys, tokens and state, kept across restarts."
)
@_port_option("api", "Port of the API [default 3721]; 0 for any free one, here and below.")
@_port_option("gateway", "Port of the gateway [default 3722].")
@_port_option("tunnel", "Port that devices dial [default 3800].")
@_port_option("internal", "Port on which the relay talks to the API [default 3801].")
@_port_option("dev-idp", "Port of the sign-in for development, which runs while no oidc_issuer is set.")
@click.option("--demo/--no-demo", default=None, help="Run a demo device, or none. [default --demo]")
@click.option("--drain-grace", type=click.UNPROCESSED, metavar="TIME", help="Time for streams to end [default 10s].")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings of all processes.")
@json_option
def up(config: Path | None, **flags: object) -> None:
    """Run everything on this machine: relay, API, gateway, and a demo device.

    Processes that die are started again. Ctrl-C or SIGTERM lets requests end, then stops everything. With --json, what
    run.json holds is written to standard output once everything is ready.
    """
    settings = load(UpSettings, config=config, environ=os.environ, overrides=flags, known=ALL_SETTINGS)
    directory = DataDirectory(settings.data_dir or default_data_dir(os.environ))
    plan = Plan(settings, directory, config, os.environ)

    def tell_ready(run: Run) -> None:
        emit(run, lambda: click.echo(banner(run, directory.path, directory.admin_token)))
        sys.stdout.flush()

    with directory.lock():
        check_free(listeners(plan.relay, plan.api))
        admin_token = directory.make_keys()
        log = LogPrinter(
            sys.stderr,
            [SUPERVISOR, "relay", "api", "demo", "agent", "dev-idp"],
            colour=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
        )

        async def supervise() -> None:
            await Supervisor(
                plan,
                directory,
                admin_token,
                demo=settings.demo,
                grace=settings.drain_grace,
                log=log,
                clock=SystemClock(),
                on_ready=tell_ready,
            ).run()

        asyncio.run(supervise())
