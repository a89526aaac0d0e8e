"""The root of the commands: finds the module of a command, and turns errors into words and exit codes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from common.errors import HomeportError
from common.settings import SettingsError
from homeport.cli.output import report

__all__ = ["cli"]

# Command -> its module; the command is the attribute of the command's own name, with "_" for "-".
_COMMANDS = {
    "up": "homeport.cli.up",
    "relay": "homeport.cli.processes",
    "api": "homeport.cli.processes",
    "agent": "homeport.cli.agent",
    "demo": "homeport.cli.processes",
    "dev-idp": "homeport.cli.processes",
    "sessions": "homeport.cli.sessions",
    "devices": "homeport.cli.devices",
    "pairing-tokens": "homeport.cli.pairing_tokens",
    "tokens": "homeport.cli.tokens",
    "provider-tokens": "homeport.cli.provider_tokens",
    "routes": "homeport.cli.routes",
    "upstream-secrets": "homeport.cli.upstream_secrets",
    "realms": "homeport.cli.realms",
    "teams": "homeport.cli.teams",
    "limits": "homeport.cli.limits",
    "usage": "homeport.cli.usage",
    "webhooks": "homeport.cli.webhooks",
    "forward": "homeport.cli.forward",
    "keys": "homeport.cli.keys",
    "db": "homeport.cli.db",
    "audit": "homeport.cli.audit",
    "custody": "homeport.cli.custody",
    "config": "homeport.cli.config",
    "doctor": "homeport.cli.doctor",
    "version": "homeport.cli.version",
}


class _Root(click.Group):
    """Imports a command when it is asked for; maps `HomeportError` to exit code 1, wrong settings to 2."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        module = _COMMANDS.get(name)
        if module is None:
            return None
        command = getattr(import_module(module), name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except SettingsError as exc:
            report(exc)
            context.exit(2)
        except HomeportError as exc:
            report(exc)
            context.exit(1)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Reach devices behind NAT, and govern who may reach them.

    `homeport up` runs everything on this machine, with a demo device.
    """
