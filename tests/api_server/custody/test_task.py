"""Mirrors follow while an API server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from api_server.custody.documents.interfaces import name_of
from api_server.custody.mirror.mirror import Mirror
from api_server.custody.mirror.task import MirrorMetrics, Mirrors
from api_server.custody.status import Status, status_of
from api_server.server import ApiServer
from common.crypto.envelope import Envelope
from common.crypto.keyring import Keyring
from tests.api_server.custody.destinations import Destination, s3_destination
from tests.api_server.custody.samples import record
from tests.api_server.custody.stage import Stage
from tests.api_server.test_server import settings
from tests.contract.relay_fixture import running_relay
from tests.stack.s3 import S3Server, s3_server

pytestmark = pytest.mark.anyio


class Running:
    """Mirrors of a stage, in a task."""

    def __init__(self, stage: Stage, destination: Destination) -> None:
        self.registry = CollectorRegistry()
        self.documents = destination.documents()
        mirrors: list[Mirror] = [stage.mirror(self.documents)]
        self._stage = stage
        self._mirrors = Mirrors(mirrors, stage.database, MirrorMetrics(self.registry), interval=3600)
        stage.store.add(self._mirrors.changed)

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self._mirrors.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._mirrors.close()

    async def until(self, state: str) -> Status:
        """Once the mirror is in that state."""
        async with asyncio.timeout(60):
            while True:
                found = await status_of(self._stage.database, self._stage.envelope.keyring, [self.documents])
                if found.mirrors[0].state == state:
                    return found
                await asyncio.sleep(0.01)

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()


async def test_c4_a_change_is_sent_without_waiting_for_the_next_look(stage: Stage) -> None:
    with s3_server() as server:
        destination = s3_destination(server)
        await stage.add(1)
        async with Running(stage, destination) as running:
            await running.until("in_step")
            await stage.add(2)
            await running.until("in_step")
            await stage.change(1)
            found = await running.until("in_step")
            assert found.well
            assert found.mirrors[0].drift.copies == 2
        assert name_of("ptk_0002") in await destination.everything()
        assert 'homeport_custody_pending_records{mirror="s3"} 0.0' in running.metrics()


async def test_c4_a_mirror_that_fails_is_told_of_and_nothing_is_lost(stage: Stage) -> None:
    with s3_server() as server:
        destination = s3_destination(server)
        server.manners.refuses = True
        await stage.add(1)
        async with Running(stage, destination) as running:
            found = await running.until("stopped")
            (mirror,) = found.mirrors
            assert not found.well
            assert (mirror.problem, mirror.drift.changes, mirror.pinned) == ("store_refused", 1, None)
            assert "secret-of-s3" not in str(mirror.detail)
            assert 'homeport_custody_mirror_problem{mirror="s3"} 1.0' in running.metrics()
            server.manners.refuses = False
            await running.until("in_step")  # tried again by itself, a little later
        assert name_of("ptk_0001") in await destination.everything()


async def test_an_api_server_with_settings_for_it_mirrors(tmp_path: Path) -> None:
    with s3_server() as server:
        destination = s3_destination(server)
        async with running_relay(tmp_path) as relay:
            given = {name.lower(): value for name, value in destination.settings.items()}
            async with ApiServer(settings(tmp_path, relay_url=relay.internal_url, **given)) as api:
                envelope = Envelope(Keyring.from_file(tmp_path / "keyring.json"))
                await api.domains.records.put(record(envelope=envelope), expected=0)
                await _until_there(server, destination, name_of("ptk_0001"))


async def _until_there(server: S3Server, destination: Destination, name: str) -> None:
    async with asyncio.timeout(60):
        while f"PUT /{destination.settings['OBJECTSTORE_BUCKET']}/pre/fix/{name}" not in "\n".join(server.manners.seen):
            await asyncio.sleep(0.01)
