"""The routes that a gateway knows: in memory, and never far from what is in the database.

    a change is heard of       the one route is read again, at once
    a label is heard of        the routes that lead to it are read again, at once
    something was missed       all versions are compared, at once
    nothing happens            all versions are compared every half a minute: what is missing is added, what differs is
                               put right, what is too much is removed
    the database is away       the last table stays, and it is tried again

A change of the table is one step for the requests: between two of them everything that was read together is put in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change, Topic
from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.gateway.routes import Route
from api_server.gateway.targets import RoutedTarget
from api_server.routing.health import HealthChecks
from api_server.routing.interfaces import DeviceBook
from api_server.routing.matcher import PrefixMatcher
from api_server.routing.presence import DevicePresence
from api_server.routing.store import RouteStore, TableRow
from api_server.routing.targets import Entry, TargetMaker
from common.ids import TeamId
from common.logging import Logger, get_logger

__all__ = ["LabelChanges", "RouteTable"]

_INTERVAL: Final = 30.0
"""Seconds between two comparisons of all versions."""

_PAUSE: Final = 1.0
"""Seconds until the database is tried again."""

_Label = tuple[TeamId, str]


class LabelChanges:
    """Tells a route table of labels. Implements `ChangeListener`.

    Args:
        table: to be told.
    """

    topic = Topic.LABELS

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def changed(self, change: Change) -> None:
        self._table.relabelled(change.team, change.subject)

    def all_changed(self) -> None:
        self._table.all_changed()


class RouteTable:
    """Implements `Router` for the gateway, and `ChangeListener`.

    Args:
        database: where routes are.
        devices: which have a label.
        maker: of targets.
        presence: is told which devices matter.
        checks: are told which are to be asked.
        interval: seconds between two comparisons of all versions.
        log: says what was put right, and when the database is away.
    """

    topic = Topic.ROUTES

    def __init__(
        self,
        database: Database,
        devices: DeviceBook,
        maker: TargetMaker,
        presence: DevicePresence,
        checks: HealthChecks,
        *,
        interval: float = _INTERVAL,
        log: Logger | None = None,
    ) -> None:
        self._database = database
        self._devices = devices
        self._maker = maker
        self._presence = presence
        self._checks = checks
        self._interval = interval
        self._log = log if log is not None else get_logger(__name__)
        self._store = RouteStore()
        self._matcher: PrefixMatcher[RoutedTarget] = PrefixMatcher()
        self._entries: dict[str, Entry] = {}
        self._stale: set[str] = set()
        self._stale_labels: set[_Label] = set()
        self._all_stale = True
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._failing = False
        self._on_replaced: Callable[[Mapping[str, RoutedTarget | None]], None] | None = None
        self.labels = LabelChanges(self)
        """Is to hear of labels."""

    def __len__(self) -> int:
        """Routes that it knows."""
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<RouteTable {len(self._entries)} routes>"

    def route(self, host: bytes, path: bytes) -> Route | None:  # noqa: ARG002  a route is for every host
        matched = self._matcher.match(path)
        if matched is None:
            return None
        target, end = matched
        return Route(target, target.path_of(path, end))

    def on_replaced(self, callback: Callable[[Mapping[str, RoutedTarget | None]], None]) -> None:
        """Call `callback` when routes that were known are others, or gone: with where they lead now, by their ids."""
        self._on_replaced = callback

    # ChangeListener

    def changed(self, change: Change) -> None:
        self._stale.add(change.subject)
        self._news.set()

    def all_changed(self) -> None:
        self._all_stale = True
        self._news.set()

    def relabelled(self, team: TeamId | None, label: str) -> None:
        """Other devices of the team have the label."""
        if team is not None:
            self._stale_labels.add((team, label))
            self._news.set()

    # Keeping up

    async def run(self) -> None:
        """Keep up until cancelled."""
        while True:
            if not await self.catch_up():
                await asyncio.sleep(_PAUSE)
                continue
            try:
                async with asyncio.timeout(self._interval):
                    await self._news.wait()
            except TimeoutError:
                self._all_stale = True

    async def catch_up(self) -> bool:
        """Read what is stale; returns whether the database could be asked."""
        async with self._turn:  # what was read first is put in first
            return await self._catch_up()

    async def _catch_up(self) -> bool:
        self._news.clear()
        everything, self._all_stale = self._all_stale, False
        stale, self._stale = self._stale, set()
        labels, self._stale_labels = self._stale_labels, set()
        stale |= {entry.id for entry in self._entries.values() if entry.label in labels}
        try:
            read, devices = await self._database.read(lambda tx: self._read(tx, everything, stale))
        except DatabaseError as exc:
            self._all_stale |= everything
            self._stale |= stale
            self._stale_labels |= labels
            if not self._failing:
                self._log.warning("routes cannot be read; the last ones stay", code=exc.code, detail=exc.detail)
            self._failing = True
            return False
        self._failing = False
        self.apply(read, devices)
        return True

    async def _read(
        self, tx: AsyncConnection, everything: bool, stale: Collection[str]
    ) -> tuple[dict[str, TableRow | None], dict[_Label, tuple[str, ...]]]:
        """What is stored of the stale routes, None for one that is gone; and who has their labels."""
        wanted = set(stale)
        if everything:
            wanted |= await self._different(tx)
        rows = {row.route.id: row for row in await self._store.rows(tx, sorted(wanted))}
        labels = {row.label for row in rows.values() if row.label is not None}
        devices = dict(await self._devices.labelled(tx, labels)) if labels else {}
        return {each: rows.get(each) for each in wanted}, devices

    async def _different(self, tx: AsyncConnection) -> set[str]:
        """Ids of the routes that are here or there alone, or not the same here and there."""
        versions = await self._store.versions(tx)
        different = {
            each for each, both in versions.items() if each not in self._entries or self._entries[each].versions != both
        }
        different |= self._entries.keys() - versions.keys()
        labelled = {each: entry.label for each, entry in self._entries.items() if entry.label is not None}
        if labelled:
            devices = await self._devices.labelled(tx, {label for _, label in labelled.values()})
            different |= {
                each for each, label in labelled.items() if devices.get(label, ()) != self._entries[each].devices
            }
        return different

    def apply(self, read: dict[str, TableRow | None], devices: dict[_Label, tuple[str, ...]]) -> None:
        """Put what was read in the place of what was known; one step for whoever asks for a route.

        Args:
            read: what is stored of routes, by their ids; None for one that is gone.
            devices: ids of the devices that have the labels of these.
        """
        replaced: dict[str, Entry] = {}
        for each in read:
            known = self._entries.pop(each, None)
            if known is not None:
                replaced[each] = known
                if self._matcher.get(known.path) is known.target:
                    self._matcher.remove(known.path)
        for row in read.values():
            if row is not None:
                here = devices.get((row.route.team, row.label), ()) if row.label is not None else ()
                entry = self._maker.make(row, here, replaced.get(row.route.id))
                self._entries[entry.id] = entry
                self._matcher.put(entry.path, entry.target)
        shared = [entry for entry in self._entries.values() if entry.label is not None]
        self._presence.watch(device for entry in shared for device in entry.devices)
        self._checks.watch(entry.health for entry in shared if entry.health is not None)
        if replaced and self._on_replaced is not None:
            entries = self._entries
            self._on_replaced({each: entries[each].target if each in entries else None for each in replaced})
