"""Fixtures of the tests of provider tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from api_server.outbound.http import OutboundHttp
from tests.api_server.provider_tokens.double import Double, running_double
from tests.api_server.provider_tokens.parts import loopback_http
from tests.homeport.up.running import homeport
from tests.stack.process import Process


@pytest.fixture
async def double(anyio_backend: str) -> AsyncIterator[Double]:
    """A provider on this machine."""
    async with running_double() as provider:
        yield provider


@pytest.fixture
async def outbound(anyio_backend: str) -> AsyncIterator[OutboundHttp]:
    """Requests that may go to this machine."""
    http = loopback_http()
    try:
        yield http
    finally:
        await http.aclose()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where people sign in."""
    folder = tmp_path_factory.mktemp("provider")
    command = homeport("dev-idp", "--port", 0, "--data-dir", folder / "data", "--json")
    with Process("dev-idp", command, folder=folder, json_output=True) as process:
        yield process.read_json()["issuer"]
