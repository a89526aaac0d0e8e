"""`homeport relay | api | demo | dev-idp`: each process alone, in the foreground, until SIGTERM or SIGINT.

The flags of the first two, and of `homeport agent`, are made from their settings, so that a setting has one name, one
type and one description wherever it is given.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import inspect

from api_server.settings import ApiSettings
from common.settings import Field, Settings, fields_of, load
from homeport.cli.output import emit, json_option, wants_json
from homeport.errors import ListenError
from homeport.settings import ALL_SETTINGS, default_data_dir
from remote_proxy.settings import RelaySettings

__all__ = ["api", "demo", "dev_idp", "exit_with", "flag_of", "relay", "with_settings"]

S = TypeVar("S", bound=Settings)

_LISTS = (inspect.ListType, inspect.VarTupleType, inspect.FrozenSetType)


def flag_of(field: Field) -> str:
    """The flag of a setting. That of a list is in the singular and repeated; that of a secret names a file."""
    name = field.name.removesuffix("s") if isinstance(field.shape, _LISTS) else field.name
    return "--" + name.replace("_", "-") + ("-file" if field.secret else "")


def _option(field: Field) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    required = "required; " if field.default is None else ""
    default = f"default {field.default}; " if field.default else ""
    destination = f"{field.name}_file" if field.secret else field.name
    return click.option(
        flag_of(field),
        destination,
        multiple=isinstance(field.shape, _LISTS),
        # Text as it is: settings say what they expect in the same words, wherever the value came from.
        type=click.UNPROCESSED,
        metavar="FILE" if field.secret else _metavar(field),
        help=f"{field.description} [{required}{default}{field.variable}]",
    )


def _metavar(field: Field) -> str:
    if field.unit is not None:
        return {"bytes": "SIZE", "seconds": "TIME"}[field.unit]
    words = {"an integer": "NUMBER", "a number": "NUMBER", "a path": "FILE", "a list": "ITEM", "a text": "TEXT"}
    return next((word for start, word in words.items() if field.type.startswith(start)), field.type.upper())


def with_settings(settings: type[S]) -> Callable[[Callable[[S], None]], Callable[..., None]]:
    """Gives a command a flag for each setting, and calls it with what all sources together say. A group with it is
    called only when none of its commands is.
    """

    def decorate(run: Callable[[S], None]) -> Callable[..., None]:
        def command(config: Path | None, **flags: Any) -> None:
            if click.get_current_context().invoked_subcommand is not None:
                return  # a command beneath it, which has options of its own
            given = {name: value for name, value in flags.items() if value not in (None, ())}
            if wants_json():
                given.setdefault("log_format", "json")
            loaded = load(settings, config=config, environ=os.environ, overrides=given, known=ALL_SETTINGS)
            _raise_open_files()
            run(loaded)

        command.__doc__ = run.__doc__
        for field in reversed([field for field in fields_of(settings) if not field.entries]):
            command = _option(field)(command)
        config = click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
        return config(command)

    return decorate


def _raise_open_files() -> None:
    """Allow as many open files as this user may have: the usual soft limit, 1024, is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@click.command()
@json_option
@with_settings(RelaySettings)
def relay(settings: RelaySettings) -> None:
    """Run the relay, which holds the tunnels that devices dial."""
    from remote_proxy.app import run

    exit_with(run(settings))


@click.command()
@json_option
@with_settings(ApiSettings)
def api(settings: ApiSettings) -> None:
    """Run the API server and the gateway."""
    from api_server.app import run

    exit_with(run(settings))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any free one.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Gets process id and URL as JSON once listening.")
@json_option
def demo(host: str, port: int, ready_file: Path | None) -> None:
    """Run the demo service alone: something for an agent to offer."""
    from homeport.demo.app import run

    def tell(url: str) -> None:
        emit({"pid": os.getpid(), "url": url}, lambda: click.echo(f"the demo service listens at {url}"))
        sys.stdout.flush()

    try:
        exit_with(run(host, port, ready_file, tell))
    except OSError as exc:
        raise ListenError(
            f"cannot listen on {host} port {port}: {exc.strerror or exc}; choose another by --port"
        ) from exc


@click.command("dev-idp")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of this machine to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=3723, show_default=True, help="0 for any free one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder for its key and people.")
@click.option("--client-id", default="homeport", show_default=True, help="The oidc_client_id of the API.")
@click.option(
    "--public-url",
    envvar="HOMEPORT_PUBLIC_URL",
    help="The public_url of the API; unless it is on this machine, this is refused. [HOMEPORT_PUBLIC_URL]",
)
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Gets process id and issuer as JSON once listening."
)
@json_option
def dev_idp(
    host: str, port: int, data_dir: Path | None, client_id: str, public_url: str | None, ready_file: Path | None
) -> None:
    """Run the OpenID provider for development alone: it asks for no password, and is for this machine only."""
    from homeport.dev_idp.app import run
    from homeport.dev_idp.place import check_place

    def tell(issuer: str) -> None:
        emit({"pid": os.getpid(), "issuer": issuer}, lambda: click.echo(f"set HOMEPORT_OIDC_ISSUER={issuer}"))
        sys.stdout.flush()

    check_place(host, public_url)
    folder = data_dir or default_data_dir(os.environ) / "dev-idp"
    try:
        exit_with(run(host, port, data_dir=folder, client_id=client_id, ready_file=ready_file, on_listening=tell))
    except OSError as exc:
        raise ListenError(
            f"cannot listen on {host} port {port}: {exc.strerror or exc}; choose another by --port"
        ) from exc


def exit_with(code: int) -> None:
    """End the command with that exit code."""
    click.get_current_context().exit(code)
