"""The domains over each kind of database, with a device to lead to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api_server.db.database import Database
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import Home, running_domains
from tests.api_server.routing.stage import made


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        await made(running, "/api/devices", {"name": "lathe"})
        yield running
