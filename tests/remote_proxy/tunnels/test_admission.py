"""Who may open a tunnel: devices at the real port, with good and bad tokens."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from common.crypto.key_sets import generate_key_pair
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from common.secret import Secret
from common.tunnel.errors import HandshakeRefusedError
from common.tunnel.interfaces import Subprotocol
from remote_proxy.revocations import RevocationKey, RevocationKind
from tests.contract.devices import Device
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.fakes import FakeClock
from tests.remote_proxy.wire import Answer, connect

pytestmark = pytest.mark.anyio


def handshake(token: str, headers: dict[str, str]) -> bytes:
    """The head of a handshake with more headers than a device's own."""
    fields = {
        "Host": "relay",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "yamux",
        "Authorization": f"Bearer {token}",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET /tunnel HTTP/1.1\r\n{lines}\r\n".encode()


HOME = TeamId("home")


async def refused(relay: RunningRelay, token: Secret) -> HandshakeRefusedError:
    """The refusal of a device with that token."""
    with pytest.raises(HandshakeRefusedError) as caught:
        await Device().dial(relay.tunnel_url, token)
    return caught.value


@pytest.mark.parametrize("subprotocol", list(Subprotocol))
async def test_a_signed_token_is_enough(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    await relay.attach("cam", name="porch", subprotocol=subprotocol)
    summary = relay.store.lookup_device_nowait(HOME, "porch").describe()
    assert (summary.team, summary.device, summary.subprotocol) == ("home", "cam", subprotocol)
    assert relay.metric("handshakes_total", outcome="admitted") == 1


async def test_an_expired_token(relay: RunningRelay) -> None:
    error = await refused(relay, relay.token(expires_in=-60.0))
    assert (error.http_status, error.reason, error.final) == (401, "session_token_expired", True)
    assert relay.metric("handshakes_total", outcome="session_token_expired") == 1


async def test_a_token_of_another_signer(relay: RunningRelay, tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "other-private.json", tmp_path / "other-public.json")
    signer = SessionTokenSigner.from_file(tmp_path / "other-private.json")
    other = RunningRelay(relay.relay, internal_key=relay.internal_key, signer=signer)
    error = await refused(relay, other.token())
    assert (error.http_status, error.reason, error.final) == (401, "invalid_session_token", True)


@pytest.mark.parametrize("text", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "." * 4_000], ids=lambda text: text[:12])
async def test_a_token_that_is_none(relay: RunningRelay, text: str) -> None:
    error = await refused(relay, Secret(text))
    assert (error.http_status, error.reason) == (401, "invalid_session_token")


async def test_a_refusal_does_not_repeat_the_token(relay: RunningRelay) -> None:
    token = relay.token(expires_in=-60.0)
    error = await refused(relay, token)
    assert token.reveal() not in str(error)


async def test_keys_that_are_added_while_it_runs_count(relay: RunningRelay, tmp_path: Path) -> None:
    """The API server puts a new public key into the file before it signs with it."""
    generate_key_pair(tmp_path / "new-private.json", tmp_path / "new-public.json")
    new = RunningRelay(
        relay.relay,
        internal_key=relay.internal_key,
        signer=SessionTokenSigner.from_file(tmp_path / "new-private.json"),
    )
    await refused(relay, new.token())
    (tmp_path / "new-public.json").rename(tmp_path / "session-keys.json")
    await new.attach("cam")
    new.devices[0].close()


async def test_a_revoked_device_and_a_revoked_credential(relay: RunningRelay) -> None:
    expires_at = relay.now + 3_600
    relay.relay.revocations.revoke(RevocationKey(RevocationKind.DEVICE, HOME, "cam"), expires_at)
    relay.relay.revocations.revoke(RevocationKey(RevocationKind.CREDENTIAL, HOME, "lost"), expires_at)
    for token in (relay.token("cam"), relay.token("door", credential="lost")):
        error = await refused(relay, token)
        assert (error.http_status, error.reason, error.final) == (403, "revoked", True)
    await relay.attach("door", credential="found")
    await relay.attach("cam", team=TeamId("other"))


async def test_a_full_relay_refuses_new_devices_and_lets_its_own_return(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_tunnels=2) as relay:
        await relay.attach("cam")
        door = await relay.attach("door")
        error = await refused(relay, relay.token("porch"))
        assert (error.http_status, error.reason, error.final) == (503, "over_capacity", False)
        assert error.retry_after == 5
        # Its old tunnel may be dead, unnoticed; there is no more of it once it has come back.
        again = await relay.attach("door")
        assert await door.wait_lost() == "replaced"
        again.close()
        await relay.until(lambda: relay.metric("tunnels") == 1)
        await relay.attach("porch")


async def test_a_stranger_does_not_learn_that_the_relay_is_full(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_tunnels=1) as relay:
        await relay.attach("cam")
        assert (await refused(relay, Secret("x"))).http_status == 401


async def test_too_many_handshakes_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running_relay(tmp_path, clock, handshakes_per_second=0.5, handshakes_burst=2) as relay:
        token = relay.token(at=clock.wall())
        assert (await refused(relay, Secret("x"))).http_status == 401
        assert (await refused(relay, Secret("x"))).http_status == 401
        error = await refused(relay, token)
        assert (error.http_status, error.reason, error.retry_after) == (429, "rate_limited", 2)
        assert relay.metric("handshakes_total", outcome="rate_limited") == 1
        clock.advance(2.0)
        device = Device()
        await device.dial(relay.tunnel_url, token)
        device.close()
        await device.wait_lost()


async def test_a_flood_of_bad_tokens_costs_other_addresses_nothing(tmp_path: Path) -> None:
    """What one handshake took of the relay's rate, any stranger could take from every device."""
    clock = FakeClock()
    limits = {"handshakes_per_second": 0.5, "handshakes_burst": 3, "failed_handshakes_burst": 5}
    async with running_relay(tmp_path, clock, **limits) as relay:
        good = relay.token(at=clock.wall()).reveal()

        async def dial(token: str, address: str) -> Answer:
            async with connect(relay.tunnel_url) as client:
                client.send(handshake(token, {"X-Forwarded-For": address}))
                return await client.read_answer()

        flood = [await dial("bad", "192.0.2.66") for _ in range(20)]
        assert [answer.status for answer in flood] == [401] * 5 + [429] * 15
        assert flood[-1].code == "too_many_failed_handshakes"
        assert flood[-1].headers["retry-after"] == "1"
        assert (await dial(good, "192.0.2.66")).status == 429  # not looked at any more
        assert (await dial(good, "192.0.2.1")).status == 101
        assert (await dial(good, "192.0.2.2")).status == 101
        assert relay.metric("handshakes_total", outcome="too_many_failed_handshakes") == 16
        clock.advance(1.0)
        assert (await dial(good, "192.0.2.66")).status == 101


async def test_a_revoked_device_that_keeps_dialling_is_charged_to_its_address(tmp_path: Path) -> None:
    async with running_relay(tmp_path, trusted_proxies=[], failed_handshakes_burst=2) as relay:
        relay.relay.revocations.revoke(RevocationKey(RevocationKind.DEVICE, HOME, "cam"), relay.now + 3_600)
        statuses = [(await refused(relay, relay.token("cam"))).http_status for _ in range(3)]
        assert statuses == [403, 403, 429]


async def test_nobody_is_admitted_before_the_revocations_are_known(tmp_path: Path) -> None:
    async with running_relay(tmp_path, await_revocations=True) as relay:
        error = await refused(relay, relay.token())
        assert (error.http_status, error.reason, error.final) == (503, "not_ready", False)
        async with connect(relay.tunnel_url) as client:
            client.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await client.read_answer()
            assert (answer.status, answer.body) == (503, b"revocations are not known yet\n")
        async with relay.control() as control:
            item = {"id": "lost", "kind": "device", "team": "home", "expires_at": relay.now + 60}
            told = await control.put("/internal/revocations", json={"items": [item]})
            assert told.json() == {"closed": 0}
        assert (await refused(relay, relay.token("lost"))).reason == "revoked"
        await relay.attach("cam")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_answered_on_the_tunnel_port(relay: RunningRelay, path: str) -> None:
    async with connect(relay.tunnel_url) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await client.read_answer()).status == 200


async def test_handshakes_under_way_are_bounded(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_pending_handshakes=4, handshake_timeout=3600) as relay:
        cam = await relay.attach("cam")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(connect(relay.tunnel_url))
            await relay.until(lambda: relay.metric("handshakes_pending") == 4)
            async with connect(relay.tunnel_url) as client:
                answer = await client.read_answer()
                assert (answer.status, answer.code) == (503, "over_capacity")
                assert answer.headers["retry-after"] == "1"
                await client.wait_closed_by_peer()
            assert relay.metric("handshakes_overflowed_total") == 1
        await relay.until(lambda: relay.metric("handshakes_pending") == 0)
        await relay.attach("door")
        assert cam.lost is None


async def test_a_hundred_devices_at_once(relay: RunningRelay) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(relay.attach(f"cam{number}"))
    assert relay.metric("tunnels") == 100
    assert len(relay.store.list_nowait(HOME).items) == 100
