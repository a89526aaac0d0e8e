"""`/api/devices`: what may be done with devices and their session tokens (P3, P4), on each database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_server.db.database import Database
from api_server.teams.roles import Role
from common.crypto.device_keys import DeviceKey, Purpose
from common.crypto.session_tokens import SessionTokenSigner, SessionTokenVerifier
from tests.api_server.devices.pairing import pair
from tests.api_server.people import DAY, PROGRAM, TUNNEL, Home, running_domains

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def register(home: Home, name: str = "lathe", **more: Any) -> Any:
    answer = await home.call("POST", "/api/devices", PROGRAM, json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def issue(home: Home, device: str = "lathe", **body: Any) -> Any:
    answer = await home.call("POST", f"/api/devices/{device}/session-tokens", PROGRAM, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_device_without_pairing(home: Home, verifier: SessionTokenVerifier) -> None:
    made = await register(home, services=["web", "ssh"])
    assert re.fullmatch("dev-[0-9a-f]{32}", made["id"])
    assert made | {"id": ""} == {
        "id": "",
        "team": "home",
        "name": "lathe",
        "services": ["web", "ssh"],
        "labels": [],
        "paired": False,
        "created_at": home.clock.wall(),
        "created_by": f"token:{PROGRAM.id}",
        "disabled_at": None,
        "last_seen_at": None,
    }
    for name in ("lathe", made["id"]):
        assert (await home.call("GET", f"/api/devices/{name}", PROGRAM)).json() == made
    issued = await issue(home, expires_in=600, service="camera")
    assert issued.keys() == {"id", "session_token", "expires_at", "tunnel_url"}
    assert (issued["tunnel_url"], issued["expires_at"]) == (TUNNEL, home.clock.wall() + 600)
    claims = verifier.verify(issued["session_token"], home.clock.wall())
    assert (claims.device, claims.device_name, claims.team) == (made["id"], "lathe", "home")
    assert (claims.service, claims.expires_at, claims.credential) == ("camera", issued["expires_at"], issued["id"])


async def test_p3_a_long_lived_token_is_marked(home: Home) -> None:
    await register(home)
    await issue(home)
    await issue(home, expires_in=30 * 86400)
    tokens = (await home.call("GET", "/api/devices/lathe/session-tokens", PROGRAM)).json()["items"]
    assert sorted(each["kind"] for each in tokens) == ["long_lived", "unbound"]
    assert all("session_token" not in each for each in tokens)
    too_long = await home.call("POST", "/api/devices/lathe/session-tokens", PROGRAM, json={"expires_in": 400 * 86400})
    assert (too_long.status_code, too_long.json()["code"]) == (422, "validation_failed")


async def test_a_device_that_is_not_registered_gets_no_token(home: Home) -> None:
    for method, path in (
        ("POST", "session-tokens"),
        ("GET", "session-tokens"),
        ("POST", "revoke"),
        ("DELETE", "session-tokens/crd_0"),
    ):
        answer = await home.call(method, f"/api/devices/nobody/{path}", PROGRAM)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_device"), path


async def test_names_are_unique_in_a_team(home: Home) -> None:
    await register(home)
    again = await home.call("POST", "/api/devices", PROGRAM, json={"name": "lathe"})
    assert (again.status_code, again.json()["code"]) == (409, "device_name_taken")
    await home.team("away")
    zoe = await home.person("zoe", away=Role.ADMIN)
    assert (await home.call("POST", "/api/devices", zoe, json={"name": "lathe"})).status_code == 201
    answers = await asyncio.gather(
        *(home.call("POST", "/api/devices", PROGRAM, json={"name": "mill"}) for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"device_name_taken"}


async def test_devices_are_listed_by_name_page_by_page(home: Home) -> None:
    for name in ("c", "a", "e", "b", "d"):
        await register(home, name)
    seen, cursor = [], ""
    while True:
        page = (await home.call("GET", f"/api/devices?limit=2{cursor}", PROGRAM)).json()
        seen += [device["name"] for device in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == ["a", "b", "c", "d", "e"]


async def test_p4_disabling_ends_all_that_is_live_and_lets_nothing_new_in(home: Home) -> None:
    await register(home)
    first, second = await issue(home), await issue(home)
    home.clock.advance(10)
    disabled = await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"disabled": True})
    assert disabled.json()["disabled_at"] == home.clock.wall()
    assert {each.id for each in home.relay.revoked} == {first["id"], second["id"]}
    refused = await home.call("POST", "/api/devices/lathe/session-tokens", PROGRAM)
    assert (refused.status_code, refused.json()["code"]) == (403, "device_disabled")
    enabled = await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"disabled": False})
    assert enabled.json()["disabled_at"] is None
    await issue(home)
    assert home.audit.actions[-3:] == ["device.disabled", "device.enabled", "session_token.issued"]


async def test_p4_a_disabled_device_cannot_renew_and_an_enabled_one_can(home: Home) -> None:
    key = DeviceKey.generate()
    device = (await pair(home, key)).json()["device"]["id"]

    async def renew() -> Any:
        proof = key.prove(Purpose.RENEW, device, home.clock.wall())
        return await home.call("POST", f"/api/devices/{device}/renew", None, json={"proof": proof})

    assert (await renew()).status_code == 201
    await home.call("PATCH", f"/api/devices/{device}", PROGRAM, json={"disabled": True})
    assert (await renew()).json()["code"] == "device_disabled"
    await home.call("PATCH", f"/api/devices/{device}", PROGRAM, json={"disabled": False})
    assert (await renew()).status_code == 201
    await home.call("POST", f"/api/devices/{device}/revoke", PROGRAM)
    assert (await renew()).json()["code"] == "device_key_unknown"


async def test_p3_a_renewal_needs_a_fresh_proof_by_the_key(home: Home, verifier: SessionTokenVerifier) -> None:
    key = DeviceKey.generate()
    device = (await pair(home, key)).json()["device"]["id"]
    path = f"/api/devices/{device}/renew"
    proof = key.prove(Purpose.RENEW, device, home.clock.wall())
    renewed = (await home.call("POST", path, None, json={"proof": proof})).json()
    claims = verifier.verify(renewed["session_token"], home.clock.wall())
    assert claims.expires_at - claims.issued_at == DAY
    replayed = await home.call("POST", path, None, json={"proof": proof})
    assert (replayed.status_code, replayed.json()["code"]) == (401, "invalid_proof")
    for other, code in (
        (DeviceKey.generate().prove(Purpose.RENEW, device, home.clock.wall()), "invalid_proof"),
        (key.prove(Purpose.PAIR, device, home.clock.wall()), "invalid_proof"),
        (key.prove(Purpose.RENEW, device, home.clock.wall() - 3600), "stale_proof"),
        ("", "invalid_proof"),
    ):
        answer = await home.call("POST", path, None, json={"proof": other})
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert "Date" in answer.headers
    for nobody in ("lathe", "dev-" + "0" * 32, "x"):
        answer = await home.call("POST", f"/api/devices/{nobody}/renew", None, json={"proof": proof})
        assert (answer.status_code, answer.json()["code"]) == (401, "device_key_unknown")


async def test_p4_revoking_one_session_token(home: Home) -> None:
    await register(home)
    first, second = await issue(home), await issue(home)
    path = f"/api/devices/lathe/session-tokens/{first['id']}"
    assert (await home.call("DELETE", path, PROGRAM)).status_code == 204
    assert (await home.call("DELETE", path, PROGRAM)).status_code == 204
    assert {each.id for each in home.relay.revoked} == {first["id"]}
    left = (await home.call("GET", "/api/devices/lathe/session-tokens", PROGRAM)).json()["items"]
    assert [each["id"] for each in left] == [second["id"]]
    missing = await home.call("DELETE", "/api/devices/lathe/session-tokens/crd_0", PROGRAM)
    assert (missing.status_code, missing.json()["code"]) == (404, "no_such_credential")


async def test_p4_a_deleted_device_is_gone_whatever_token_it_shows(home: Home) -> None:
    made = await register(home)
    await issue(home)
    assert (await home.call("DELETE", "/api/devices/lathe", PROGRAM)).status_code == 204
    assert [(each.kind, each.id) for each in home.relay.revoked] == [("device", made["id"])]
    assert (await home.call("GET", "/api/devices/lathe", PROGRAM)).json()["code"] == "no_such_device"
    await register(home)  # the name is free


async def test_p4_when_the_relay_is_away_it_is_done_and_said_so(home: Home) -> None:
    await register(home)
    issued = await issue(home)
    home.relay.away = True
    answer = await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"disabled": True})
    assert (answer.status_code, answer.json()["code"]) == (502, "relay_unavailable")
    assert (await home.call("GET", "/api/devices/lathe", PROGRAM)).json()["disabled_at"] is not None
    home.relay.away = False
    home.domains.revocations.events_lost()
    task = asyncio.create_task(home.domains.revocations.run())
    try:
        await home.relay.changed.wait()
    finally:
        task.cancel()
    assert [each.id for each in home.relay.told[0]] == [issued["id"]]


async def test_a_new_name_holds_at_once_and_the_old_one_is_kept_from_others_for_a_while(home: Home) -> None:
    made = await register(home)
    issued = await issue(home)
    renamed = await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"name": "mill"})
    assert (renamed.json()["id"], renamed.json()["name"]) == (made["id"], "mill")
    assert (await home.call("GET", "/api/devices/lathe", PROGRAM)).json()["code"] == "no_such_device"
    taken = await home.call("POST", "/api/devices", PROGRAM, json={"name": "lathe"})
    assert (taken.status_code, taken.json()["code"]) == (409, "device_name_taken")
    assert made["id"] in taken.json()["detail"]
    await home.call("DELETE", f"/api/devices/mill/session-tokens/{issued['id']}", PROGRAM)
    await register(home)


@pytest.mark.parametrize("name", ["", "Front", "a--b", "-a", "a_b", "x" * 41, "ä", "a b", "dev-" + "0" * 32])
async def test_what_is_no_name_is_refused(home: Home, name: str) -> None:
    answer = await home.call("POST", "/api/devices", PROGRAM, json={"name": name})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    await register(home)
    answer = await home.call("PATCH", "/api/devices/lathe", PROGRAM, json={"name": name})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_a1_a_developer_may_change_own_devices_only(home: Home) -> None:
    dora, dan = await home.person("dora", home=Role.DEVELOPER), await home.person("dan", home=Role.DEVELOPER)
    max_ = await home.person("max", home=Role.MANAGER)
    assert (await home.call("POST", "/api/devices", dora, json={"name": "hers"})).status_code == 201
    changes = (
        ("PATCH", "/api/devices/hers", {"name": "hers-now"}),
        ("PATCH", "/api/devices/hers-now", {"name": "hers"}),
        ("POST", "/api/devices/hers/session-tokens", {}),
        ("POST", "/api/devices/hers/revoke", None),
        ("DELETE", "/api/devices/hers", None),
    )
    for method, path, body in changes:
        answer = await home.call(method, path.replace("hers-now", "hers"), dan, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
    for who in (dora, max_):
        for method, path, body in changes:
            answer = await home.call(method, path, who, json=body)
            assert answer.status_code < 300, (method, path, answer.text)
        await home.call("POST", "/api/devices", dora, json={"name": "hers"})


async def test_a2_a_device_of_another_team_does_not_exist(home: Home) -> None:
    made = await register(home)
    issued = await issue(home)
    await home.team("away")
    zoe = await home.person("zoe", away=Role.ADMIN)
    for name in ("lathe", made["id"]):
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"name": "mine"}),
            ("DELETE", "", None),
            ("POST", "/revoke", None),
            ("GET", "/session-tokens", None),
            ("POST", "/session-tokens", {}),
            ("DELETE", f"/session-tokens/{issued['id']}", None),
        ):
            answer = await home.call(method, f"/api/devices/{name}{path}", zoe, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_device"), (method, path)
            named = await home.call(method, f"/api/devices/{name}{path}?team=home", zoe, json=body)
            assert (named.status_code, named.json()["code"]) == (404, "no_such_team"), (method, path)
    assert home.relay.revoked == []


async def test_a_token_is_written_down_nowhere(home: Home) -> None:
    await register(home)
    issued = await issue(home)
    kept = []
    async with home.database.administer() as connection:
        for table in ("credentials", "devices"):
            kept += (await connection.exec_driver_sql(f"SELECT * FROM {table}")).all()
    assert issued["session_token"] not in str(kept) + str(home.audit.lines)
