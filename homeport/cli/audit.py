"""`homeport audit`: is the record of what was done as it was written?"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import click

from api_server.audit.keys import CheckpointVerifier
from api_server.audit.verification import Head, Report
from api_server.audit.verification import verify as verify_log
from api_server.db.database import Database
from api_server.db.settings import AUDIT_PUBLIC_KEYS, DatabaseSettings
from homeport.cli.database import with_database
from homeport.cli.output import emit, json_option

__all__ = ["audit"]

_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", re.ASCII)


@click.group()
def audit() -> None:
    """Verify the audit log."""


def _heads(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> list[Head]:
    matches = [_HEAD.fullmatch(text) for text in texts]
    if None in matches:
        raise click.BadParameter("a head is NUMBER:HASH, as an earlier call has shown it")
    return [Head(seq=int(match[1]), hash=match[2]) for match in matches if match is not None]


@audit.command()
@click.option("--key-file", type=click.Path(path_type=Path), help="Keys to believe; by default those of the data dir.")
@click.option(
    "--head", "heads", multiple=True, callback=_heads, metavar="HEAD", help="A head noted before; repeatable."
)
@with_database
@json_option
def verify(key_file: Path | None, heads: list[Head], settings: DatabaseSettings) -> None:
    """Verify the whole audit log, in the database itself: chain, end and signed checkpoints.

    It finds rows that were changed, removed, inserted or put elsewhere, and a tail that was cut off behind the newest
    checkpoint. Keep the head that it shows where who can write to the database cannot, and give it to a later call by
    --head: then nothing up to there can have been altered. The exit code is 1 when anything was found.
    """
    verifier = CheckpointVerifier(key_file if key_file is not None else _keys(settings))

    async def run() -> Report:
        async with Database.connect(settings.database(), must_exist=True) as database:
            await database.check()
            return await verify_log(database, verifier, expected=heads)

    report = asyncio.run(run())
    emit(report, lambda: _show(report))
    if not report.intact:
        click.get_current_context().exit(1)


def _keys(settings: DatabaseSettings) -> Path:
    """The public keys, which include retired ones; beside the private ones, or those."""
    public = settings.audit_key().with_name(AUDIT_PUBLIC_KEYS)
    return public if public.exists() else settings.audit_key()


def _show(report: Report) -> None:
    for finding in report.findings:
        click.echo(f"row {finding.seq}: {finding.problem.value}: {finding.detail}")
    verdict = "intact" if report.intact else "ALTERED"
    click.echo(f"the audit log is {verdict}: {report.rows} rows, proven by signature up to row {report.checkpoint}")
    if report.head is not None:
        click.echo(f"head {report.head.seq}:{report.head.hash}")
