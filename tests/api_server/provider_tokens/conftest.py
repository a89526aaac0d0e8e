"""Fixtures of the tests of provider tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api_server.outbound.http import OutboundHttp
from tests.api_server.provider_tokens.double import Double, running_double
from tests.api_server.provider_tokens.parts import loopback_http


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
