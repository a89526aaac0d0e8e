"""A revocation ends what is live within the call, and keeps it out, over the real ports."""

from __future__ import annotations

import asyncio

import pytest

from common.ids import TeamId
from common.tunnel.errors import HandshakeRefusedError, TunnelLostError
from common.tunnel.interfaces import Subprotocol
from tests.contract.devices import Device, keep
from tests.contract.relay_fixture import RunningRelay
from tests.remote_proxy.wire import open_stream

pytestmark = pytest.mark.anyio


async def revoke(relay: RunningRelay, id_: str, kind: str, *, team: str = "home", expires_in: float = 3600.0) -> int:
    body = {"kind": kind, "team": team, "expires_at": relay.now + expires_in}
    async with relay.control() as control:
        answer = await control.put(f"/internal/revocations/{id_}", json=body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["closed"])


@pytest.mark.parametrize("subprotocol", list(Subprotocol))
@pytest.mark.parametrize(("kind", "id_"), [("device", "cam"), ("credential", "cred-of-cam")])
async def test_the_tunnel_and_its_streams_are_gone_when_the_call_returns(
    relay: RunningRelay, kind: str, id_: str, subprotocol: Subprotocol
) -> None:
    kept = keep()
    cam = await relay.attach("cam", credential="cred-of-cam", services={"keep": kept}, subprotocol=subprotocol)
    door = await relay.attach("door", credential="cred-of-door")
    async with open_stream(relay, "keep") as client:
        _, sink = await kept.next()
        session = relay.store.lookup_device_nowait(relay.team, "cam").session_id
        assert await revoke(relay, id_, kind) == 1
        assert not await relay.store.exists(relay.team, session)
        with pytest.raises(ConnectionResetError):
            await client.read_end()
        assert await sink.wait_lost() is not None
    assert await cam.wait_lost() == "revoked"
    with pytest.raises(HandshakeRefusedError) as caught:
        await relay.attach("cam", credential="cred-of-cam")
    assert (caught.value.http_status, caught.value.reason) == (403, "revoked")
    assert door.lost is None
    assert relay.metric("tunnels_closed_total", reason="revoked") == 1
    assert relay.metric("revocations") == 1


async def test_the_session_has_left_the_store_within_the_call(relay: RunningRelay) -> None:
    """Not in the next turn of the loop: nobody may find it, however quick."""
    await relay.attach("cam")
    tunnel = relay.store.lookup_device_nowait(relay.team, "cam")
    assert relay.relay.revocations.revoke(tunnel.revocation_keys[0], relay.now + 60) == 1
    assert len(relay.store) == 0


async def test_a_tunnel_that_has_ended_is_not_closed_again(relay: RunningRelay) -> None:
    cam = await relay.attach("cam")
    cam.close()
    await relay.until(lambda: relay.metric("tunnels") == 0)
    assert await revoke(relay, "cam", "device") == 0


async def test_a_device_whose_credential_was_revoked_returns_with_another(relay: RunningRelay) -> None:
    await relay.attach("cam", credential="lost")
    assert await revoke(relay, "lost", "credential") == 1
    await relay.attach("cam", credential="found")


async def test_another_team_s_device_of_the_same_name_is_left_alone(relay: RunningRelay) -> None:
    theirs = await relay.attach("cam", team=TeamId("other"))
    assert await revoke(relay, "cam", "device") == 0
    assert theirs.lost is None
    await relay.attach("cam", team=TeamId("other"))


async def test_a_revocation_can_be_taken_back(relay: RunningRelay) -> None:
    await revoke(relay, "cam", "device")
    async with relay.control() as control:
        query = {"team": "home", "kind": "device"}
        assert (await control.delete("/internal/revocations/cam", params=query)).json() == {"restored": True}
        assert (await control.delete("/internal/revocations/cam", params=query)).json() == {"restored": False}
    await relay.attach("cam")


async def test_all_that_is_in_force_can_be_told_at_once(relay: RunningRelay) -> None:
    cam, door, porch = [await relay.attach(name, credential=f"cred-of-{name}") for name in ("cam", "door", "porch")]
    expires_at = relay.now + 3600
    items = [
        {"id": "cam", "kind": "device", "team": "home", "expires_at": expires_at},
        {"id": "cred-of-door", "kind": "credential", "team": "home", "expires_at": expires_at},
        {"id": "porch", "kind": "device", "team": "other", "expires_at": expires_at},
    ]
    async with relay.control() as control:
        assert (await control.put("/internal/revocations", json={"items": items})).json() == {"closed": 2}
    assert await cam.wait_lost() == await door.wait_lost() == "revoked"
    assert porch.lost is None


async def test_a_list_with_one_wrong_item_is_refused_whole(relay: RunningRelay) -> None:
    cam = await relay.attach("cam")
    items = [
        {"id": "cam", "kind": "device", "team": "home", "expires_at": relay.now + 60},
        {"id": "x", "kind": "device", "team": "No Name", "expires_at": relay.now + 60},
    ]
    async with relay.control() as control:
        assert (await control.put("/internal/revocations", json={"items": items})).status_code == 400
    assert cam.lost is None
    assert relay.metric("revocations") == 0


async def test_of_devices_that_dial_while_they_are_revoked_none_stays(relay: RunningRelay) -> None:
    """Ten dial at once, and the revocation comes somewhere among them."""
    devices = [Device() for _ in range(10)]
    tokens = [relay.token("cam", credential=f"cred{number}") for number in range(10)]
    dials = [
        asyncio.ensure_future(device.dial(relay.tunnel_url, token))
        for device, token in zip(devices, tokens, strict=True)
    ]
    revoking = asyncio.ensure_future(revoke(relay, "cam", "device"))
    await asyncio.wait([*dials, revoking])
    for device, dial in zip(devices, dials, strict=True):
        error = dial.exception()
        if error is None:
            assert await device.wait_lost() in ("replaced", "revoked")
        else:
            assert isinstance(error, HandshakeRefusedError | TunnelLostError)
    assert len(relay.store) == 0


async def test_a_revocation_is_forgotten_when_its_tokens_have_expired(relay: RunningRelay) -> None:
    await revoke(relay, "cam", "device", expires_in=-1)
    await relay.attach("cam")
    await relay.relay.sweep()
    assert relay.metric("revocations") == 0
