"""Fixtures of the tests of provider tokens."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest

from api_server.outbound.http import OutboundHttp
from api_server.outbound.policy import TargetPolicy
from api_server.outbound.resolver import Resolver
from tests.api_server.provider_tokens.double import Double, running_double


@pytest.fixture
async def double(anyio_backend: str) -> AsyncIterator[Double]:
    """A provider on this machine."""
    async with running_double() as provider:
        yield provider


@pytest.fixture
async def outbound(anyio_backend: str) -> AsyncIterator[OutboundHttp]:
    """Requests that may go to this machine."""
    policy = TargetPolicy(["127.0.0.0/8"])
    http = OutboundHttp(policy, Resolver(policy), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    try:
        yield http
    finally:
        await http.aclose()
