"""`homeport doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from api_server.settings import ApiSettings
from common.errors import HomeportError
from common.settings import SettingsError, load
from homeport.cli.connection import Connection, with_connection
from homeport.cli.output import emit, json_option
from homeport.doctor import Finding, Verdict, examine_api, examine_machine, examine_ports, examine_run
from homeport.settings import ALL_SETTINGS
from homeport.up.plan import listeners
from homeport.up.ports import Listener
from remote_proxy.settings import RelaySettings

__all__ = ["doctor"]

_MARKS = {Verdict.GOOD: ("ok", "green"), Verdict.WARNING: ("warning", "yellow"), Verdict.BAD: ("WRONG", "red")}


@click.command()
@with_connection()
@json_option
def doctor(connection: Connection) -> None:
    """Look for what is wrong, and say what to do.

    Looks at this machine, the data directory, and a running `homeport up`, or the API that --api names. Exit code 1
    when something is wrong.
    """
    findings = list(_examine(connection))
    emit({"findings": findings}, lambda: _show(findings))
    if any(finding.verdict is Verdict.BAD for finding in findings):
        click.get_current_context().exit(1)


def _examine(connection: Connection) -> Iterator[Finding]:
    yield _settings()
    yield from examine_machine(connection.data_dir)
    try:
        if connection.names_api:
            yield from examine_api(connection.api, connection.token_for(connection.api), connection.team)
        elif connection.is_up():
            yield from examine_run(connection.run, connection.token_for(connection.api))
        else:
            yield Finding(check="homeport up", verdict=Verdict.GOOD, detail=f"does not run in {connection.data_dir}")
            yield from examine_ports(_listeners())
    except HomeportError as exc:
        yield Finding(check="token", verdict=Verdict.BAD, detail=exc.detail, advice="name one by --token-file")


def _settings() -> Finding:
    problems: list[str] = []
    for settings in ALL_SETTINGS:
        try:
            load(settings, config=None, environ=os.environ, overrides={}, known=ALL_SETTINGS)
        except SettingsError as exc:
            problems += [
                str(problem) for problem in exc.problems if not problem.missing and str(problem) not in problems
            ]
    if problems:
        detail, advice = "; ".join(problems), "look at them with `homeport config check`"
        return Finding(check="settings", verdict=Verdict.BAD, detail=detail, advice=advice)
    return Finding(check="settings", verdict=Verdict.GOOD, detail="nothing unknown or out of range in the environment")


def _listeners() -> list[Listener]:
    unused = Path("unused")  # where keys are makes no difference to the ports
    keys = {"internal_key_file": unused, "session_keys_file": unused}
    more = {"internal_key_file": unused, "session_signing_key_file": unused, "admin_token_file": unused}
    more["data_dir"] = unused
    try:
        relay = load(RelaySettings, config=None, environ=os.environ, overrides=keys, known=ALL_SETTINGS)
        api = load(ApiSettings, config=None, environ=os.environ, overrides=more, known=ALL_SETTINGS)
    except SettingsError:
        return []  # told already
    return listeners(relay, api)


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        mark, colour = _MARKS[finding.verdict]
        click.echo(f"{click.style(f'{mark:8}', fg=colour)}{finding.check}: {finding.detail}")
        if finding.advice is not None:
            click.echo(f"{'':8}-> {finding.advice}")
