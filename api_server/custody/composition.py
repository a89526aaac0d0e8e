"""Custody as an API server runs it, put together: the record store that others ask, and what keeps its copies.

no primary    RecordStore = the database; every destination that the settings name mirrors it
a primary     RecordStore = the database, and then the primary; the other destinations mirror the database
"""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from api_server.custody.database import DatabaseRecordStore
from api_server.custody.errors import CustodyError
from api_server.custody.interfaces import RecordStore
from api_server.custody.mirror.mirror import Mirror
from api_server.custody.mirror.task import MirrorMetrics, Mirrors
from api_server.custody.mirrors import documents_of
from api_server.custody.primary.acknowledgements import Acknowledgements, PrimaryMetrics
from api_server.custody.primary.store import PrimaryRecordStore
from api_server.custody.settings import CustodySettings
from api_server.db.database import Database
from api_server.leases.interfaces import Leases
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.logging import get_logger

__all__ = ["Custody"]


class Custody:
    """Where records are.

    Args:
        settings: name the destinations, and the primary.
        database: of the installation.
        copy: the records in it.
        envelope: opens them.
        leases: one process at a time at a destination.
        registry: of metrics.
        clock: of both kinds.

    Raises:
        DestinationSettingsError: a destination cannot be right.
    """

    def __init__(
        self,
        settings: CustodySettings,
        *,
        database: Database,
        copy: DatabaseRecordStore,
        envelope: Envelope,
        leases: Leases,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        mirrors = [
            Mirror(each, database, envelope, leases, clock, primary=each.name == settings.custody_primary)
            for each in documents_of(settings, clock)
        ]
        primary = next((each for each in mirrors if each.name == settings.custody_primary), None)
        self._primary: Acknowledgements | None = None
        self.records: RecordStore = copy
        """What the other domains keep records in."""
        if primary is not None:
            self._primary = Acknowledgements(
                primary.name,
                primary.destination,
                database,
                clock,
                PrimaryMetrics(registry),
                patience=settings.custody_primary_timeout,
            )
            self.records = PrimaryRecordStore(copy, self._primary)
        self._mirrors = Mirrors(
            mirrors, database, MirrorMetrics(registry), interval=settings.custody_interval, primary=self._primary
        )
        copy.add(self._mirrors.changed)
        self._log = get_logger("api_server.custody")

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mirrors.run())
            if self._primary is not None:
                tasks.create_task(self._primary.run())

    async def begin(self) -> None:
        """While `run` runs, before anything is served: have what the primary has and this database has not. A primary
        that does not answer keeps no server from starting; until it does, nothing that could be lost is begun.
        """
        if self._primary is None:
            return
        try:
            await self._primary.first()
        except CustodyError as exc:
            self._log.error("begun without the primary", primary=self._primary.name, code=exc.code, detail=exc.detail)

    async def close(self) -> None:
        """Leave nothing open."""
        await self._mirrors.close()
