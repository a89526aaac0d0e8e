"""The `homeport` command.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage. With `--json` the result is one JSON document on standard
output, and an error one problem object (RFC 9457) on standard error. Secrets are read from files, never from arguments.

Each command is in a module of its own, imported when it is called: `homeport relay` does not load the HTTP client.
"""

from __future__ import annotations

from homeport.cli.root import cli

__all__ = ["cli", "main"]


def main() -> None:
    """Entry point of the `homeport` script."""
    cli(prog_name="homeport")
