"""The control API over real HTTP, by httpx."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import msgpack
import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.logging import get_logger
from common.sessions.interfaces import Summary
from common.tunnel.interfaces import Subprotocol
from remote_proxy.internal.api import ControlApi
from remote_proxy.internal.authentication import Authentication
from remote_proxy.tunnels.session import LiveTunnel
from tests.contract.devices import echo
from tests.contract.relay_fixture import RunningRelay
from tests.remote_proxy.fakes import FakeTunnel
from tests.remote_proxy.wire import connect, open_stream

pytestmark = pytest.mark.anyio

SESSION = "ses_" + "0" * 32


@contextlib.asynccontextmanager
async def http(relay: RunningRelay, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {relay.internal_key.reveal()}", "Accept": "application/json", **headers}
    async with httpx.AsyncClient(base_url=relay.internal_url, headers=headers, trust_env=False, verify=False) as client:
        yield client


async def no_metrics(accept: str) -> tuple[str, bytes]:
    return "text/plain", b""


# Authentication


ROUTES = [
    ("GET", "/internal/sessions?team=home"),
    ("GET", f"/internal/sessions/{SESSION}?team=home"),
    ("DELETE", f"/internal/sessions/{SESSION}?team=home"),
    ("POST", f"/internal/sessions/{SESSION}/streams"),
    ("PUT", "/internal/revocations/cam"),
    ("DELETE", "/internal/revocations/cam?team=home&kind=device"),
    ("PUT", "/internal/revocations"),
    ("GET", "/internal/events"),
    ("POST", "/internal/notices"),
    ("GET", "/metrics"),
    ("GET", "/no/such/path"),
    ("PATCH", "/internal/sessions"),
]
OPEN = {"/healthz", "/readyz"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic aG9tZTpwb3J0"])
async def test_without_the_key_nothing_is_answered(
    relay: RunningRelay, method: str, path: str, authorization: str
) -> None:
    async with http(relay, Authorization=authorization) as client:
        answer = await client.request(method, path)
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_routes_above_are_all_that_there_are(relay: RunningRelay) -> None:
    """A route that is added must be added above, and so be tested without the key."""
    application = ControlApi(
        store=relay.store,
        revocations=relay.relay.revocations,
        events=relay.relay.events,
        authentication=Authentication(relay.internal_key),
        not_ready=relay.relay.not_ready,
        expose=no_metrics,
        log=get_logger("test"),
    ).application()
    known = {
        (method, path.partition("?")[0].replace(SESSION, "{id}").replace("cam", "{id}")) for method, path in ROUTES
    }
    served = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {(method, path) for method, path in served if path not in OPEN} <= known
    assert {path for _, path in served} >= OPEN


async def test_health_needs_no_key(relay: RunningRelay) -> None:
    async with http(relay, Authorization="") as client:
        for path in sorted(OPEN):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_who_has_not_shown_the_key_does_not_keep_a_connection(relay: RunningRelay, path: str) -> None:
    async with connect(relay.internal_url) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.read_answer()
        assert await client.read_end() == b""


# Sessions


async def test_a_page_and_a_session(relay: RunningRelay) -> None:
    await relay.attach("cam", name="porch", services={"web": echo}, subprotocol=Subprotocol.YAMUX)
    await relay.attach("door")
    async with http(relay) as client:
        page = (await client.get("/internal/sessions", params={"team": "home"})).json()
        assert page["next"] is None
        assert {item["device"] for item in page["items"]} == {"cam", "door"}
        cam = next(item for item in page["items"] if item["device"] == "cam")
        assert cam["device_name"] == "porch"
        assert cam["subprotocol"] == "yamux"
        assert cam["services"] == {"web": "unknown"}
        one = await client.get(f"/internal/sessions/{cam['id']}", params={"team": "home"})
        assert one.json()["id"] == cam["id"]


@pytest.mark.parametrize(("device", "found"), [("cam", 1), ("porch", 1), ("other", 0), ("", 0)])
async def test_the_sessions_of_one_device(relay: RunningRelay, device: str, found: int) -> None:
    await relay.attach("cam", name="porch")
    await relay.attach("door")
    async with http(relay) as client:
        page = (await client.get("/internal/sessions", params={"team": "home", "device": device})).json()
        assert [item["device"] for item in page["items"]] == ["cam"] * found


async def test_pages_follow_the_cursor(relay: RunningRelay) -> None:
    for number in range(5):
        await relay.attach(f"cam{number}")
    seen: list[str] = []
    async with http(relay) as client:
        query: dict[str, Any] = {"team": "home", "limit": 2}
        while True:
            page = (await client.get("/internal/sessions", params=query)).json()
            seen += [item["device"] for item in page["items"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
    assert sorted(seen) == [f"cam{number}" for number in range(5)]


async def test_bodies_are_msgpack_unless_json_is_asked_for(relay: RunningRelay) -> None:
    await relay.attach("cam")
    async with http(relay, Accept="*/*") as client:
        answer = await client.get("/internal/sessions", params={"team": "home"})
        assert answer.headers["content-type"] == "application/msgpack"
        assert msgpack.unpackb(answer.content)["items"][0]["device"] == "cam"
        problem = await client.get(f"/internal/sessions/{SESSION}", params={"team": "home"})
        assert msgpack.unpackb(problem.content)["code"] == "no_such_session"


async def test_a_session_is_closed_with_a_reason(relay: RunningRelay) -> None:
    device = await relay.attach("cam")
    session = relay.store.lookup_device_nowait(relay.team, "cam")
    async with http(relay) as client:
        path = f"/internal/sessions/{session.session_id}"
        for query in ({"team": "other"}, {"team": "home", "epoch": "1"}):
            assert (await client.delete(path, params=query)).json() == {"closed": False}
        query = {"team": "home", "epoch": str(session.epoch), "reason": "device_deleted"}
        assert (await client.delete(path, params=query)).json() == {"closed": True}
        assert (await client.delete(path, params=query)).json() == {"closed": False}
    assert await device.wait_lost() == "device_deleted"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/internal/sessions", "bad_request"),
        ("GET", "/internal/sessions?team=No%20Name", "bad_request"),
        ("GET", "/internal/sessions?team=home&limit=0", "bad_request"),
        ("GET", "/internal/sessions?team=home&limit=1001", "bad_request"),
        ("GET", "/internal/sessions?team=home&limit=ten", "bad_request"),
        ("GET", "/internal/sessions?team=home&limit=%C2%B2", "bad_request"),
        ("GET", "/internal/sessions?team=home&cursor=x", "invalid_cursor"),
        ("GET", "/internal/sessions/x?team=home", "no_such_session"),
        ("GET", f"/internal/sessions/{SESSION}", "bad_request"),
        ("DELETE", f"/internal/sessions/{SESSION}?team=home&epoch=x", "bad_request"),
        ("DELETE", f"/internal/sessions/{SESSION}?team=home&epoch=-1", "bad_request"),
        ("DELETE", f"/internal/sessions/{SESSION}?team=home&reason=No%20code", "bad_request"),
        ("DELETE", "/internal/revocations/cam?team=home", "bad_request"),
        ("DELETE", "/internal/revocations/cam?team=home&kind=team", "bad_request"),
        ("PUT", "/internal/revocations/cam", "bad_request"),
        ("PATCH", "/internal/sessions", "method_not_allowed"),
        ("GET", "/internal", "no_such_path"),
        ("GET", "/internal/sessions/a/b/c", "no_such_path"),
    ],
)
async def test_what_cannot_be_understood_is_refused_with_a_code(
    relay: RunningRelay, method: str, path: str, code: str
) -> None:
    async with http(relay) as client:
        answer = await client.request(method, path)
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["code"] == code
        assert problem["status"] == answer.status_code
        assert (answer.status_code == 405) is ("allow" in answer.headers)


async def test_a_body_over_the_limit_is_refused(relay: RunningRelay) -> None:
    async with http(relay) as client:
        answer = await client.put("/internal/revocations", content=bytes(5 * 1024 * 1024))
        assert answer.json()["code"] == "bad_request"


async def test_a_stream_is_not_opened_by_a_later_request_of_a_connection(relay: RunningRelay) -> None:
    await relay.attach("cam")
    session = relay.store.lookup_device_nowait(relay.team, "cam").session_id
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "homeport-stream",
        "Homeport-Team": "home",
        "Homeport-Service": "echo",
    }
    async with http(relay) as client:
        assert (await client.get("/internal/sessions", params={"team": "home"})).status_code == 200
        answer = await client.post(f"/internal/sessions/{session}/streams", headers=upgrade)
        assert answer.status_code == 426
        assert answer.headers["upgrade"] == "homeport-stream"


# Metrics


async def test_metrics_count_what_happened_and_name_no_device(relay: RunningRelay) -> None:
    device = await relay.attach("cam-1", name="porch-1")
    async with open_stream(relay, device="cam-1") as client:
        client.send(b"x" * 5_000)
        await client.read(5_000)
        async with http(relay) as control:
            text = (await control.get("/metrics", headers={"Accept": "text/plain"})).text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["homeport_relay_tunnels",] == 1
    assert samples["homeport_relay_tunnels_opened_total", "homeport.v1"] == 1
    assert samples["homeport_relay_handshakes_total", "admitted"] == 1
    assert samples["homeport_relay_streams",] == 1
    assert samples["homeport_relay_streams_opened_total",] == 1
    assert samples["homeport_relay_payload_bytes_total", "in"] >= 5_000
    assert samples["homeport_relay_payload_bytes_total", "out"] >= 5_000
    assert samples["homeport_relay_limit", "max_tunnels"] == 20_000
    assert samples["homeport_relay_draining",] == 0
    for name in ("cam-1", "porch-1", "home", relay.store.lookup_device_nowait(relay.team, "cam-1").session_id):
        assert f'"{name}"' not in text
    device.close()
    await device.wait_lost()
    await relay.until(lambda: relay.metric("tunnels_closed_total", reason="closed_by_device") == 1)
    assert relay.metric("tunnels") == 0


async def test_totals_never_fall_when_a_tunnel_ends(relay: RunningRelay) -> None:
    async with http(relay) as control:
        totals = []
        for _ in range(2):
            device = await relay.attach("cam")
            async with open_stream(relay) as client:
                client.send(b"x" * 1_000)
                await client.read(1_000)
            await control.get("/metrics")
            totals.append(relay.metric("payload_bytes_total", direction="in"))
            device.close()
            await device.wait_lost()
            await relay.until(lambda: relay.metric("tunnels") == 0)
            totals.append(relay.metric("payload_bytes_total", direction="in"))
    assert totals == sorted(totals)
    assert totals[2] >= totals[0] + 1_000


async def test_what_a_tunnel_carried_is_counted_when_it_ends(relay: RunningRelay) -> None:
    """Also if nobody looked at the metrics meanwhile."""
    device = await relay.attach("cam")
    async with open_stream(relay) as client:
        client.send(b"x" * 5_000)
        await client.read(5_000)
    device.close()
    await relay.until(lambda: relay.metric("tunnels") == 0)
    assert relay.metric("payload_bytes_total", direction="in") >= 5_000


async def test_metrics_in_the_format_that_is_asked_for(relay: RunningRelay) -> None:
    async with http(relay, Accept="application/openmetrics-text; version=1.0.0") as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


async def test_an_internal_error_is_a_problem_without_its_cause(relay: RunningRelay) -> None:
    """A tunnel that raises when it is asked again; no tunnel of ours does."""

    class Broken(FakeTunnel):
        def describe(self) -> Summary:
            if self.registered:
                raise RuntimeError("the secret cause")
            self.registered = True
            return super().describe()

        registered = False

    relay.store.register_nowait(cast(LiveTunnel, Broken("cam", 1)))
    async with http(relay) as client:
        answer = await client.get("/internal/sessions", params={"team": "home"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
