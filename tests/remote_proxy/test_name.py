"""What a relay is called in lists."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.contract.relay_fixture import running_relay

pytestmark = pytest.mark.anyio


async def test_on_any_free_port_it_is_called_by_the_port_that_it_got(tmp_path: Path) -> None:
    async with running_relay(tmp_path, relay_name="") as relay:
        await relay.attach("cam")
        port = urlsplit(relay.relay.tunnel_url).port
        assert port
        summary = await relay.store.lookup_device_nowait(relay.team, "cam").summary()
        assert summary.relay == f"{socket.gethostname()}:{port}"


async def test_a_name_that_was_set_stays(tmp_path: Path) -> None:
    async with running_relay(tmp_path, relay_name="north") as relay:
        await relay.attach("cam")
        assert (await relay.store.lookup_device_nowait(relay.team, "cam").summary()).relay == "north"
