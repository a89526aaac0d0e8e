"""The page of the reference that lists the commands: what `--help` says, of every command, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from homeport.cli.root import cli

__all__ = ["commands_page"]

_HEAD = """\
# Commands

Written from the code by `python -m homeport.reference docs/reference`.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage. With `--json` the result is JSON on standard output, and a
problem is JSON on standard error. Processes (`relay`, `api`, `agent`) take every one of their
[settings](settings.md) as an option.
"""

_PROCESSES = frozenset((("relay",), ("api",), ("agent",)))
"""Commands whose options are settings, which have a page of their own."""


def commands_page() -> str:
    """The page as it should be."""
    parts = [_HEAD]
    with click.Context(cli, info_name="homeport") as root:
        for path, command in _walk(cli, root, ()):
            parts.append(f"## `{' '.join(('homeport', *path))}`\n\n{_text(command)}")
            if path not in _PROCESSES:
                parts.extend(_options(command))
    return "\n".join(parts)


def _walk(
    group: click.Group, context: click.Context, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _walk(command, context, (*path, name))


def _text(command: click.Command) -> str:
    """The help; an example, which click keeps together by a line of `\\b`, becomes a block of code."""
    lines = [line for line in inspect.cleandoc(command.help or "").splitlines() if line.strip() != "\b"]
    return "\n".join("  " + line if line.startswith("  ") else line for line in lines) + "\n"


def _options(command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    if arguments:
        yield f"Arguments: {', '.join(f'`{argument}`' for argument in arguments)}\n"
    rows = [
        (record[0], record[1].replace("|", "\\|"))
        for parameter in command.params
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    if rows:
        yield "| option | what it does |\n| --- | --- |"
        yield "\n".join(f"| `{option}` | {meaning} |" for option, meaning in rows) + "\n"
