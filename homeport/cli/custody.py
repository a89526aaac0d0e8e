"""`homeport custody`: the keys of what is sealed, and the mirrors of the records.

The commands work on the database, the keyring and the destinations themselves, as an API server does; both may run at
the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from api_server.audit.checkpoints import Checkpoints
from api_server.audit.keys import CheckpointSigner
from api_server.audit.log import ChainedAuditLog
from api_server.audit.records import Actor, AuditEntry
from api_server.custody.documents.interfaces import Documents
from api_server.custody.errors import DestinationSettingsError
from api_server.custody.mirror.mirror import Mirror, Progress
from api_server.custody.mirror.restoration import restore as restore_records
from api_server.custody.mirror.verification import Report, verify_database, verify_mirror
from api_server.custody.mirrors import documents_of
from api_server.custody.rotation import Rotation, check_unneeded, rotate
from api_server.custody.settings import CustodySettings
from api_server.custody.status import Status, status_of
from api_server.db.database import Database
from api_server.leases.store import DatabaseLeases
from common.clock import SystemClock
from common.crypto.envelope import Envelope
from common.crypto.keyring import Keyring, KeyringFile, forget_key, prepare_key
from homeport.cli.database import with_custody
from homeport.cli.output import emit, json_option, say, show_rows

__all__ = ["custody"]

T = TypeVar("T")

_PATIENCE = 20.0
"""Seconds to wait for an API server that is at a destination, or for what a killed one has left to run out."""

_MIRROR = click.Choice(["git", "s3", "postgresql"])


@click.group()
def custody() -> None:
    """Watch over what is stored sealed: keys, mirrors, restoration."""


@custody.command()
@with_custody
@json_option
def status(settings: CustodySettings) -> None:
    """Show the keys and how many sealed texts need each, and what each mirror lacks. No destination is asked.

    The exit code is 1 when a key is missing, or a mirror has stopped.
    """

    async def work(place: _Place) -> Status:
        keyring = Keyring.from_file(settings.keyring())
        return await status_of(place.database, keyring, place.documents, primary=settings.custody_primary)

    found = _run(settings, work)
    emit(found, lambda: _show_status(found))
    if not found.well:
        click.get_current_context().exit(1)


@custody.command()
@click.argument("mirror", type=_MIRROR)
@click.option("--allow-deletions", is_flag=True, help="Let the deletions through that are waiting now.")
@with_custody
@json_option
def sync(mirror: str, allow_deletions: bool, settings: CustodySettings) -> None:
    """Send MIRROR what it lacks, now. An API server does so by itself; this shows how far it is, and what is wrong.

    From the primary, what is newer there is taken first.
    """

    async def work(place: _Place) -> dict[str, Any]:
        chosen = place.mirror(mirror)
        if allow_deletions:
            await place.record("mirror.deletions_allowed", "mirror", mirror)
            say(f"{await chosen.allow_deletions()} deletions are allowed")
        synced = await chosen.sync(
            _progress(f"sent to {mirror}"), taking=_progress(f"taken from {mirror}"), patience=_PATIENCE
        )
        return {"mirror": mirror, "sent": synced.sent, "deleted": synced.deleted, "taken": synced.taken}

    done = _run(settings, work)
    taken = f"{done['taken']} taken, " if done["taken"] else ""
    emit(done, lambda: click.echo(f"{taken}{done['sent']} sent, {done['deleted']} deleted"))


@custody.command()
@click.argument("mirror", type=_MIRROR)
@click.option("--discard", is_flag=True, help="Even where it holds records that this database has not.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_custody
@json_option
def adopt(mirror: str, discard: bool, yes: bool, settings: CustodySettings) -> None:
    """Take the destination of MIRROR as the settings name it and as it is now, and send everything anew.

    For a destination that has moved, or was altered and has been looked at. Nothing there is deleted.
    """

    async def work(place: _Place) -> dict[str, str]:
        chosen = place.mirror(mirror)
        if not yes:
            click.confirm(f"Pin {chosen.destination}, and send it everything?", abort=True, err=True)
        await place.record("mirror.adopted", "mirror", mirror, {"destination": chosen.destination})
        await chosen.adopt(discard=discard, patience=_PATIENCE)
        return {"mirror": mirror, "destination": chosen.destination}

    done = _run(settings, work)
    emit(done, lambda: click.echo(f"{mirror} is pinned to {done['destination']}"))


@custody.command()
@with_custody
@json_option
def verify(settings: CustodySettings) -> None:
    """Open every record in the database, and compare every document at the mirrors with their signed manifests.

    It finds what was altered, swapped, taken away, put there or rolled back. The exit code is 1 when anything was.
    """

    async def work(place: _Place) -> list[Report]:
        envelope = place.envelope
        here = await verify_database(place.database, envelope, place.clock, _progress("opened in the database"))
        there = [
            await verify_mirror(
                each, place.database, envelope, place.leases, _progress(f"compared at {each.name}"), patience=_PATIENCE
            )
            for each in place.documents
        ]
        return [here, *there]

    reports = _run(settings, work)
    intact = all(report.intact for report in reports)
    emit({"intact": intact, "reports": reports}, lambda: _show_reports(reports))
    if not intact:
        click.get_current_context().exit(1)


@custody.command()
@click.argument("mirror", type=_MIRROR)
@with_custody
@json_option
def restore(mirror: str, settings: CustodySettings) -> None:
    """Bring the records at MIRROR into this database, which has none. It needs the keyring that they were sealed with.

    It can be stopped at any point, and goes on when it is called again.
    """

    async def work(place: _Place) -> dict[str, Any]:
        documents = place.one(mirror)
        await place.record("records.restored", "mirror", mirror, {"destination": documents.destination})
        count = await restore_records(
            documents,
            place.database,
            place.envelope,
            place.leases,
            place.clock,
            _progress(f"restored from {mirror}"),
            patience=_PATIENCE,
        )
        return {"mirror": mirror, "records": count}

    done = _run(settings, work)
    emit(done, lambda: click.echo(f"{done['records']} records are restored"))


@custody.command("rotate-keys")
@click.option("--prepare", is_flag=True, help="Instead: add a key that opens, and will seal after the next rotation.")
@click.option("--forget", "forgotten", metavar="KEY", help="Instead: take a retired key out of the keyring for good.")
@with_custody
@json_option
def rotate_keys(prepare: bool, forgotten: str | None, settings: CustodySettings) -> None:
    """Have everything that is sealed need a new key, while everything runs.

    A new key is added, every sealed text is re-wrapped for it, and the old keys are retired once nothing needs them. It
    can be stopped (Ctrl-C) or killed at any point, and goes on when it is called again; the exit code is 1 until it is
    through. Where API servers have copies of the keyring, call it with --prepare first, and copy the file to them.
    """
    if prepare and forgotten is not None:
        raise click.UsageError("--prepare and --forget are two things")
    if prepare:

        async def make(place: _Place) -> str:
            await place.record("keys.prepared", "keyring", settings.keyring().name)
            return prepare_key(settings.keyring())

        prepared = _run(settings, make)
        emit({"prepared": prepared}, lambda: click.echo(f"{prepared} opens, and will seal after the next rotation"))
        return
    if forgotten is not None:

        async def drop(place: _Place) -> None:
            await check_unneeded(place.database, settings.keyring(), forgotten)
            await place.record("keys.forgotten", "key", forgotten)
            forget_key(settings.keyring(), forgotten)

        _run(settings, drop)
        emit({"forgotten": forgotten}, lambda: click.echo(f"{forgotten} is forgotten"))
        return

    async def work(place: _Place) -> Rotation:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await place.record("keys.rotated", "keyring", settings.keyring().name)
        return await rotate(place.database, settings.keyring(), _progress("re-wrapped"), stopped=stopped.is_set)

    done = _run(settings, work)
    emit(done, lambda: _show_rotation(done))
    if done.remaining:
        click.get_current_context().exit(1)


class _Place:
    """What the commands work on."""

    def __init__(self, settings: CustodySettings, database: Database, documents: Sequence[Documents]) -> None:
        self.clock = SystemClock()
        self.database = database
        self.documents = documents
        self.leases = DatabaseLeases(database, self.clock)
        self._settings = settings

    @property
    def envelope(self) -> Envelope:
        return Envelope(KeyringFile(self._settings.keyring()))

    def one(self, name: str) -> Documents:
        for documents in self.documents:
            if documents.name == name:
                return documents
        raise DestinationSettingsError(f"the settings name no {name}; see `homeport config check`")

    async def record(self, action: str, kind: str, target: str, after: Mapping[str, Any] | None = None) -> None:
        """Write to the audit log what is about to be done; it is not done when that fails."""
        log = ChainedAuditLog(Checkpoints(CheckpointSigner(self._settings.audit_key())), self.clock)
        operator = Actor("system", "homeport-custody", "the command line")
        entry = AuditEntry(
            actor=operator, team=None, action=f"custody.{action}", target_kind=kind, target_id=target, after=after
        )
        await self.database.write(lambda tx: log.record(tx, entry))

    def mirror(self, name: str) -> Mirror:
        primary = name == self._settings.custody_primary
        return Mirror(self.one(name), self.database, self.envelope, self.leases, self.clock, primary=primary)


def _run(settings: CustodySettings, work: Callable[[_Place], Awaitable[T]]) -> T:
    @contextlib.asynccontextmanager
    async def place() -> AsyncIterator[_Place]:
        documents = documents_of(settings, SystemClock())
        async with Database.connect(settings.database(), must_exist=True) as database:
            await database.check()
            try:
                yield _Place(settings, database, documents)
            finally:
                for each in documents:
                    await each.close()

    async def run() -> T:
        async with place() as opened:
            return await work(opened)

    return asyncio.run(run())


def _progress(what: str) -> Progress:
    return lambda done, total: say(f"{done} of {total} {what}")


def _show_status(found: Status) -> None:
    show_rows(
        ("KEY", "STATE", "NEEDED BY"), [(key.id, key.state, key.needed_by) for key in found.keys], "there are no keys"
    )
    rows = [
        (
            mirror.name,
            "primary" if mirror.primary else "mirror",
            mirror.state,
            mirror.drift.changes,
            mirror.drift.deletions,
            f"{mirror.drift.copies}/{mirror.drift.records}",
            _moment(mirror.acknowledged_at),
            mirror.destination,
        )
        for mirror in found.mirrors
    ]
    columns = ("STORE", "ROLE", "STATE", "TO SEND", "TO DELETE", "COPIES", "ACKNOWLEDGED", "DESTINATION")
    show_rows(columns, rows, "no mirrors")
    for mirror in found.mirrors:
        if mirror.problem is not None:
            click.echo(f"{mirror.name}: {mirror.detail} [{mirror.problem}]")


def _show_reports(reports: Sequence[Report]) -> None:
    for report in reports:
        for finding in report.findings:
            click.echo(f"{report.where}: {finding.record or '-'}: {finding.problem.value}: {finding.detail}")
        verdict = "intact" if report.intact else "ALTERED"
        click.echo(f"{report.where} ({report.destination}) is {verdict}: {report.records} records")


def _show_rotation(done: Rotation) -> None:
    click.echo(f"{done.rewrapped} re-wrapped for {done.key}")
    if done.remaining:
        click.echo(f"{done.remaining} still need another key; call it again to go on")
    for key_id in done.retired:
        click.echo(f"{key_id} is retired; `homeport custody rotate-keys --forget {key_id}` takes it out for good")


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
