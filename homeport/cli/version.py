"""`homeport version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed_version

import click

from homeport.cli.output import emit, json_option

__all__ = ["version", "versions"]

_LIBRARIES = ("aiohttp", "cryptography", "httptools", "httpx", "msgspec", "trio", "uvloop", "websockets")


def versions() -> dict[str, str]:
    """Versions of Homeport, of Python, and of the libraries that carry bytes or keys."""
    return {
        "homeport": installed_version("homeport"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{name: installed_version(name) for name in _LIBRARIES},
    }


@click.command()
@json_option
def version() -> None:
    """Say which version this is, and what it stands on."""
    found = versions()
    width = max(map(len, found))

    def show() -> None:
        for name, number in found.items():
            click.echo(f"{name:{width}}  {number}")

    emit(found, show)
