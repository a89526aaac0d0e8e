"""`/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio

import pytest

from api_server.health.readiness import Readiness
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import FakeClock, FakeDatabase, FakeRelay
from tests.api_server.rest import running_api

pytestmark = pytest.mark.anyio


async def test_health_does_not_depend_on_the_relay(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        api.relay.is_ready = False
        answer = await api.get("/healthz", token=None)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert api.relay.asked == 0


async def test_readiness_does(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        assert (await api.get("/readyz", token=None)).status_code == 200
        api.relay.is_ready = False
        api.clock.advance(1)
        answer = await api.get("/readyz", token=None)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.headers["Retry-After"] == "1"
        api.relay.is_ready = True
        api.clock.advance(1)
        assert (await api.get("/readyz", token=None)).status_code == 200


async def test_without_its_database_a_process_is_ready_and_says_so(signer: SessionTokenSigner) -> None:
    """It still carries requests to devices; if it were not ready, no process would be, and nobody did."""
    async with running_api(signer) as api:
        assert (await api.get("/readyz", token=None)).json() == {"status": "ok", "database": "ok"}
        api.database.is_there = False
        api.clock.advance(1)
        answer = await api.get("/readyz", token=None)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "unavailable"})


async def test_a_draining_process_is_not_ready_and_still_healthy(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        api.readiness.drain()
        assert (await api.get("/readyz", token=None)).json()["detail"] == "the process is draining"
        assert (await api.get("/healthz", token=None)).status_code == 200


async def test_however_often_readiness_is_asked_for_the_relay_is_asked_once_a_second() -> None:
    relay, clock = FakeRelay(), FakeClock()
    readiness = Readiness(relay, FakeDatabase(), clock)
    assert await asyncio.gather(*(readiness.obstacle() for _ in range(50))) == [None] * 50
    assert relay.asked == 1
    clock.advance(0.9)
    await readiness.obstacle()
    assert relay.asked == 1
    clock.advance(0.2)
    await readiness.obstacle()
    assert relay.asked == 2


async def test_metrics_count_requests_by_route_and_not_by_path(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        for number in range(3):
            await api.get(f"/api/sessions/ses_{number:032}")
        await api.get("/nothing/at/all")
        await api.call("PURGE", "/api/sessions")
        await api.get("/api/sessions", token=None)
        answer = await api.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.text
        assert 'homeport_api_requests_total{method="GET",route="/api/sessions/{id}",status="404"} 3.0' in text
        assert 'homeport_api_requests_total{method="GET",route="none",status="404"} 1.0' in text
        assert 'homeport_api_requests_total{method="other",route="none",status="405"} 1.0' in text
        assert 'homeport_api_unauthenticated_total{code="unauthenticated"} 1.0' in text
        assert "/nothing" not in text
        assert "ses_" not in text
