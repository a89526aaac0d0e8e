"""The API server as a whole, before a real relay with real tunnels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_server.auth.admin_token import ensure_admin_token
from api_server.custody.database import DatabaseRecordStore
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.errors import DatabaseSchemaError
from api_server.devices.interfaces import Revocation
from api_server.devices.ledger import RevocationLedger
from api_server.server import ApiServer
from api_server.settings import ApiSettings
from api_server.tokens.keys import ensure_token_keys
from common.clock import SystemClock
from common.crypto.envelope import Envelope
from common.crypto.errors import KeyFileError, KeyMissingError
from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyring import Keyring, ensure_keyring
from common.crypto.session_tokens import SessionTokenVerifier
from common.settings import SettingsError, load
from tests.api_server.custody.samples import record
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.databases.fixtures import FreshDatabase
from tests.databases.servers import make_database_file, unreachable

pytestmark = pytest.mark.anyio


def settings(folder: Path, **changes: object) -> ApiSettings:
    """Settings for a server beside the relay whose keys are in `folder`."""
    ensure_admin_token(folder / "admin-token")
    ensure_key_pair(folder / "audit-signing-keys.json", folder / "audit-keys.json")
    ensure_token_keys(folder / "api-token-keys")
    ensure_keyring(folder / "keyring.json")
    if not (folder / "homeport.db").exists():
        make_database_file(folder / "homeport.db")
    return load(
        ApiSettings,
        config=None,
        environ={},
        overrides={
            "api_port": 0,
            "gateway_port": 0,
            "internal_key_file": folder / "internal-key",
            "session_signing_key_file": folder / "session-signing-keys.json",
            "admin_token_file": folder / "admin-token",
            "data_dir": folder,
            "drain_grace": 0,
            **changes,
        },
    )


@asynccontextmanager
async def running(
    folder: Path, relay: RunningRelay, **changes: object
) -> AsyncIterator[tuple[ApiServer, httpx.AsyncClient]]:
    """A server, and a client of it that shows the administration token."""
    async with ApiServer(settings(folder, relay_url=relay.internal_url, **changes)) as server:
        token = (folder / "admin-token").read_text().strip()
        async with httpx.AsyncClient(
            base_url=server.api_url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=20
        ) as http:
            yield server, http


async def ledger(folder: Path) -> list[Revocation]:
    """What is revoked."""
    async with Database.connect(f"sqlite:///{folder}/homeport.db") as database:
        return await database.read(lambda tx: RevocationLedger().in_force(tx, 0))


async def issue(http: httpx.AsyncClient) -> dict[str, Any]:
    """Register the device `cam`, and issue it a session token."""
    assert (await http.post("/api/devices", json={"name": "cam"})).status_code == 201
    answer = await http.post("/api/devices/cam/session-tokens", json={"expires_in": 600})
    assert answer.status_code == 201
    issued: dict[str, Any] = answer.json()
    return issued


async def test_a_session_is_listed_shown_and_closed(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, running(tmp_path, relay) as (_, http):
        assert (await http.get("/api/sessions")).json() == {"items": [], "next": None}
        device = await relay.attach("cam")
        (item,) = (await http.get("/api/sessions")).json()["items"]
        assert (item["device"], item["team"], item["state"]) == ("cam", "home", "healthy")
        assert (await http.get(f"/api/sessions/{item['id']}")).json()["id"] == item["id"]
        assert (await http.delete(f"/api/sessions/{item['id']}")).status_code == 204
        await device.wait_lost()
        assert (await http.delete(f"/api/sessions/{item['id']}")).status_code == 404
        assert (await http.get("/api/sessions?cursor=nonsense")).json()["code"] == "invalid_cursor"


async def test_what_happens_to_sessions_is_followed(tmp_path: Path) -> None:
    async with (
        running_relay(tmp_path) as relay,
        running(tmp_path, relay) as (_, http),
        http.stream("GET", "/api/events") as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 2000"

        async def follow(kind: str) -> None:
            while await anext(lines) != f"event: {kind}":
                pass

        device = await relay.attach("cam")
        await follow("session.online")
        device.close()
        await follow("session.offline")


async def test_a_revoked_token_is_refused_at_once_and_by_the_next_relay_too(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, running(tmp_path, relay) as (_, http):
        issued = await issue(http)
        claims = SessionTokenVerifier.from_file(tmp_path / "session-keys.json").verify(
            issued["session_token"], SystemClock().wall()
        )
        assert claims.credential == issued["id"]
        device = await relay.attach("cam", credential=issued["id"])
        assert (await http.delete(f"/api/devices/cam/session-tokens/{issued['id']}")).status_code == 204
        await device.wait_lost()
        assert len(relay.relay.revocations) == 1
    async with running_relay(tmp_path, await_revocations=True) as successor:
        assert successor.relay.not_ready() is not None
        async with running(tmp_path, successor):
            await successor.until(lambda: successor.relay.not_ready() is None)
            ((key, _),) = successor.relay.revocations
            assert key.id == issued["id"]


async def test_readiness_follows_the_relay_and_the_drain(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, running(tmp_path, relay) as (server, http):
        assert (await http.get("/readyz")).status_code == 200
        async with http.stream("GET", "/api/events") as events:
            await server.drain()
            assert [line async for line in events.aiter_lines()] == ["retry: 2000", ""], "the stream is over"
        assert (await http.get("/readyz")).json()["detail"] == "the process is draining"
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{server.gateway_url}/d/home/cam/web/")


async def test_the_gateway_knows_the_same_callers(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, running(tmp_path, relay) as (server, http):
        unknown = await http.get(f"{server.gateway_url}/d/home/cam/web/")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "no_such_device")
        await issue(http)
        unknown = await http.get(f"{server.gateway_url}/d/home/never/web/")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "no_such_device")
    async with running_relay(tmp_path) as relay, running(tmp_path, relay) as (server, http):
        gone = await http.get(f"{server.gateway_url}/d/home/cam/web/")
        assert (gone.status_code, gone.json()["code"]) == (502, "device_offline")
        async with httpx.AsyncClient(trust_env=False) as stranger:
            unknown = await stranger.get(f"{server.gateway_url}/d/home/cam/web/")
            assert (unknown.status_code, unknown.json()["code"]) == (401, "unauthenticated")


async def test_without_a_relay_it_serves_and_says_so(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay:
        pass
    async with running(tmp_path, relay) as (_, http):
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        answer = await http.get("/api/sessions")
        assert (answer.status_code, answer.json()["code"]) == (502, "relay_unavailable")
        issued = await issue(http)  # this needs no relay
        answer = await http.delete(f"/api/devices/cam/session-tokens/{issued['id']}")
        assert (answer.status_code, answer.json()["code"]) == (502, "relay_unavailable")
        (kept,) = await ledger(tmp_path)
        assert kept.id == issued["id"], "the relay will be told"


async def test_two_processes_may_share_the_ports(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, running(tmp_path, relay, reuse_port=True) as (first, _):
        ports = {
            "api_port": int(first.api_url.rpartition(":")[2]),
            "gateway_port": int(first.gateway_url.rpartition(":")[2]),
        }
        async with running(tmp_path, relay, reuse_port=True, **ports) as (second, _):
            assert (second.api_url, second.gateway_url) == (first.api_url, first.gateway_url)
        with pytest.raises(OSError, match="address already in use"):
            async with running(tmp_path, relay, **ports):
                pass


async def test_it_listens_on_ipv6_too(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay, running(tmp_path, relay, api_host="::1") as (server, http):
        assert server.api_url.startswith("http://[::1]:")
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "internal-key",
        "session-signing-keys.json",
        "admin-token",
        "audit-signing-keys.json",
        "keyring.json",
        "api-token-keys",
    ],
)
async def test_a_key_file_that_others_may_read_keeps_it_from_starting(tmp_path: Path, name: str) -> None:
    async with running_relay(tmp_path):
        made = settings(tmp_path)
        (tmp_path / name).chmod(0o644)
        with pytest.raises(KeyFileError, match=f"{name}.*chmod 600"):
            ApiServer(made)


async def test_c2_a_key_that_the_database_needs_and_is_not_there_keeps_it_from_starting(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay:
        made = settings(tmp_path, relay_url=relay.internal_url)
        envelope = Envelope(Keyring.from_file(tmp_path / "keyring.json"))
        async with Database.connect(f"sqlite:///{tmp_path}/homeport.db") as database:
            await DatabaseRecordStore(database, SystemClock()).put(record(envelope=envelope), expected=0)
        async with ApiServer(made):
            pass
        (tmp_path / "keyring.json").unlink()
        with pytest.raises(KeyFileError, match=r"keyring\.json is missing"):
            ApiServer(made)
        ensure_keyring(tmp_path / "keyring.json")
        with pytest.raises(KeyMissingError, match=envelope.keyring.first.id):
            async with ApiServer(made):
                pass


async def test_a_database_without_tables_keeps_it_from_starting(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as relay:
        made = settings(tmp_path, relay_url=relay.internal_url)
        (tmp_path / "homeport.db").write_bytes(b"")
        with pytest.raises(DatabaseSchemaError, match="homeport db upgrade"):
            async with ApiServer(made):
                pass


async def test_without_its_database_it_does_all_that_does_not_need_it(
    tmp_path: Path, fresh_database: FreshDatabase
) -> None:
    with fresh_database(Kind.POSTGRESQL) as url:
        async with (
            running_relay(tmp_path) as relay,
            running(tmp_path, relay, database_url=url) as (server, http),
        ):
            await relay.attach("cam")
            credential = f"/api/devices/cam/session-tokens/{(await issue(http))['id']}"
            service = f"{server.gateway_url}/d/home/cam/web/"
            before = await http.get(service)
            assert (await http.get("/readyz")).json() == {"status": "ok", "database": "ok"}
            assert (await http.delete(credential)).status_code == 204
            with unreachable(url):
                answer = await http.delete(credential)
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
                assert int(answer.headers["Retry-After"]) > 0
                assert (await http.get(service)).status_code == before.status_code
                assert (await http.get("/api/sessions")).status_code == 200
                while (ready := await http.get("/readyz")).json()["database"] == "ok":
                    assert ready.status_code == 200
                assert ready.json() == {"status": "ok", "database": "unavailable"}
            assert (await http.delete(credential)).status_code == 204


async def test_certificates_that_cannot_be_used_keep_it_from_starting(tmp_path: Path) -> None:
    async with running_relay(tmp_path):
        (tmp_path / "ca.pem").write_text("not a certificate")
        with pytest.raises(SettingsError, match="internal_tls_ca_file"):
            ApiServer(settings(tmp_path, relay_url="https://127.0.0.1:1", internal_tls_ca_file=tmp_path / "ca.pem"))


async def test_a_task_that_fails_ends_the_server(tmp_path: Path) -> None:
    """The feed dying silently would leave a gateway that looks for devices where they are no more."""
    async with running_relay(tmp_path) as relay:
        with pytest.raises(BaseExceptionGroup) as caught:
            await _run_with_a_bug(tmp_path, relay)
        assert caught.group_contains(ZeroDivisionError)


async def _run_with_a_bug(folder: Path, relay: RunningRelay) -> None:
    async with running(folder, relay) as (server, _):
        server.feed.add(_Faulty())
        await relay.attach("cam")
        await asyncio.Event().wait()


class _Faulty:
    """A listener with a bug."""

    def session_changed(self, event: object) -> None:
        raise ZeroDivisionError

    def events_lost(self) -> None:
        """Of no concern."""
