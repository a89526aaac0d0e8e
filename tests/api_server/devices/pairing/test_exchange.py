"""Pairing tokens and their exchange: P1 and P3, on each database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from api_server.db.database import Database
from api_server.teams.roles import Role
from common.crypto.api_tokens import PAIRING_TOKEN_PREFIX, new_token, stored_hash
from common.crypto.device_keys import DeviceKey, Purpose
from common.crypto.session_tokens import SessionTokenSigner, SessionTokenVerifier
from common.secret import Secret
from tests.api_server.devices.pairing import exchange, pairing_token
from tests.api_server.people import DAY, PROGRAM, TUNNEL, Home, running_domains

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def devices(home: Home) -> list[str]:
    return [each["name"] for each in (await home.call("GET", "/api/devices", PROGRAM)).json()["items"]]


async def test_p1_a_pairing_token_makes_a_device(home: Home, verifier: SessionTokenVerifier) -> None:
    made = await pairing_token(home)
    assert re.fullmatch("hpp_[0-9A-Za-z]{49}", made["token"])
    assert (made["uses"], made["used"], made["expires_at"]) == (1, 0, home.clock.wall() + 900)
    answer = await exchange(home, made["token"], DeviceKey.generate())
    assert answer.status_code == 201
    paired = answer.json()
    assert paired.keys() == {"device", "session_token", "expires_at", "tunnel_url"}
    assert (paired["device"]["name"], paired["device"]["team"], paired["tunnel_url"]) == ("lathe", "home", TUNNEL)
    claims = verifier.verify(paired["session_token"], home.clock.wall())
    assert (claims.device, claims.device_name, claims.team) == (paired["device"]["id"], "lathe", "home")
    assert claims.expires_at - claims.issued_at == DAY
    shown = (await home.call("GET", f"/api/pairing-tokens/{made['id']}", PROGRAM)).json()
    assert (shown["used"], shown["last_used_at"], shown["reuse_count"]) == (1, home.clock.wall(), 0)
    assert "token" not in shown
    assert home.audit.actions == ["pairing_token.created", "device.paired"]


async def test_p1_of_a_hundred_exchanges_at_once_exactly_one_succeeds(home: Home) -> None:
    token = (await pairing_token(home))["token"]
    answers = await asyncio.gather(
        *(exchange(home, token, DeviceKey.generate(), f"lathe-{number}") for number in range(100))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(201) == 1
    assert set(codes) <= {201, 409, 429}  # whoever shows a spent token too often is told to wait
    assert len(await devices(home)) == 1


async def test_p1_a_spent_token_is_refused_audited_and_shown_to_its_owner(home: Home) -> None:
    made = await pairing_token(home)
    await exchange(home, made["token"], DeviceKey.generate())
    refused = await exchange(home, made["token"], DeviceKey.generate(), "eve")
    assert (refused.status_code, refused.json()["code"]) == (409, "pairing_token_used")
    shown = (await home.call("GET", f"/api/pairing-tokens/{made['id']}", PROGRAM)).json()
    assert (shown["reuse_count"], shown["last_reuse_at"]) == (1, home.clock.wall())
    assert (home.audit.lines[-1].action, home.audit.lines[-1].outcome) == ("pairing_token.reused", "refused")
    assert await devices(home) == ["lathe"]


async def test_p3_a_lost_answer_is_asked_for_again_by_the_same_key_only(home: Home) -> None:
    token = (await pairing_token(home))["token"]
    key = DeviceKey.generate()
    first = (await exchange(home, token, key)).json()
    again = (await exchange(home, token, key)).json()
    assert again["device"] == first["device"]
    assert (await exchange(home, token, DeviceKey.generate())).json()["code"] == "pairing_token_used"
    home.clock.advance(3600)  # the token is too old by now, but it has been used by this very key
    assert (await exchange(home, token, key)).json()["device"] == first["device"]


async def test_p3_the_same_key_ten_times_at_once_is_one_device(home: Home) -> None:
    token, key = (await pairing_token(home))["token"], DeviceKey.generate()
    answers = await asyncio.gather(*(exchange(home, token, key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["device"]["id"] for answer in answers}) == 1
    assert await devices(home) == ["lathe"]


async def test_p3_a_key_must_be_proved(home: Home) -> None:
    token, key = (await pairing_token(home))["token"], DeviceKey.generate()
    subject = stored_hash(Secret(token))
    now = home.clock.wall()
    for proof, code in (
        (DeviceKey.generate().prove(Purpose.PAIR, subject, now), "invalid_proof"),
        (key.prove(Purpose.RENEW, subject, now), "invalid_proof"),
        (key.prove(Purpose.PAIR, "another token", now), "invalid_proof"),
        (key.prove(Purpose.PAIR, subject, now + 3600), "stale_proof"),
        ("x", "invalid_proof"),
        (None, "validation_failed"),
    ):
        answer = await exchange(home, token, key, proof=proof)
        assert answer.json()["code"] == code
    assert (await exchange(home, token, key)).status_code == 201  # nothing of that has spent the token


async def test_p3_a_proof_counts_once(home: Home) -> None:
    token, key = (await pairing_token(home, uses=2))["token"], DeviceKey.generate()
    proof = key.prove(Purpose.PAIR, stored_hash(Secret(token)), home.clock.wall())
    assert (await exchange(home, token, key, proof=proof)).status_code == 201
    assert (await exchange(home, token, key, proof=proof)).json()["code"] == "invalid_proof"


async def test_without_a_key_the_session_token_cannot_be_renewed(home: Home) -> None:
    token = (await pairing_token(home))["token"]
    paired = (await exchange(home, token, None)).json()
    shown = (await home.call("GET", "/api/devices/lathe", PROGRAM)).json()
    assert (shown["id"], shown["paired"]) == (paired["device"]["id"], False)
    assert (await exchange(home, token, None)).json()["code"] == "pairing_token_used"


async def test_a_fleet_has_a_count(home: Home) -> None:
    token = (await pairing_token(home, uses=3, name="sensor"))["token"]
    answers = [await exchange(home, token, DeviceKey.generate(), None) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 409]
    names = await devices(home)
    assert len(set(names)) == 3
    assert all(re.fullmatch("sensor(-[0-9a-f]{4})?", name) for name in names)


async def test_a_name_that_is_taken_does_not_spend_the_token(home: Home) -> None:
    await home.call("POST", "/api/devices", PROGRAM, json={"name": "lathe"})
    token, key = (await pairing_token(home))["token"], DeviceKey.generate()
    assert (await exchange(home, token, key)).json()["code"] == "device_name_taken"
    assert (await exchange(home, token, key, None)).json()["code"] == "device_name_needed"
    assert (await exchange(home, token, key, "mill")).status_code == 201


async def test_a_token_is_good_for_its_time_and_until_it_is_withdrawn(home: Home) -> None:
    made = await pairing_token(home, expires_in=60)
    withdrawn = await pairing_token(home)
    path = f"/api/pairing-tokens/{withdrawn['id']}"
    assert (await home.call("DELETE", path, PROGRAM)).status_code == 204
    assert (await home.call("DELETE", path, PROGRAM)).status_code == 204
    refused = await exchange(home, withdrawn["token"], DeviceKey.generate())
    assert (refused.status_code, refused.json()["code"]) == (410, "pairing_token_expired")
    home.clock.advance(60)
    refused = await exchange(home, made["token"], DeviceKey.generate())
    assert (refused.status_code, refused.json()["code"]) == (410, "pairing_token_expired")
    assert await devices(home) == []


async def test_a_device_that_was_deleted_does_not_come_back_with_its_token(home: Home) -> None:
    token, key = (await pairing_token(home))["token"], DeviceKey.generate()
    await exchange(home, token, key)
    await home.call("DELETE", "/api/devices/lathe", PROGRAM)
    assert (await exchange(home, token, key)).json()["code"] == "pairing_token_used"


async def test_a_device_whose_key_was_revoked_is_paired_anew_with_a_new_token_only(home: Home) -> None:
    token, key = (await pairing_token(home))["token"], DeviceKey.generate()
    await exchange(home, token, key)
    await home.call("POST", "/api/devices/lathe/revoke", PROGRAM)
    assert (await exchange(home, token, key)).json()["code"] == "device_key_unknown"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "hpp_",
        "hpp_" + "0" * 49,
        "hp_" + "0" * 49,
        new_token(PAIRING_TOKEN_PREFIX).reveal()[:-1],
        new_token(PAIRING_TOKEN_PREFIX).reveal() + "0",
        new_token(PAIRING_TOKEN_PREFIX).reveal(),
        "ä" * 53,
        "x" * 257,
    ],
    ids=["empty", "prefix", "checksum", "kind", "cut", "longer", "unknown", "unicode", "huge"],
)
async def test_a_token_that_is_none_is_refused(home: Home, token: str) -> None:
    answer = await exchange(home, token, DeviceKey.generate())
    expected = (422, "validation_failed") if len(token) > 256 else (401, "invalid_pairing_token")
    assert (answer.status_code, answer.json()["code"]) == expected


async def test_guessing_is_limited(home: Home) -> None:
    codes = [
        (await exchange(home, new_token(PAIRING_TOKEN_PREFIX).reveal(), DeviceKey.generate())).status_code
        for _ in range(12)
    ]
    assert codes == [401] * 10 + [429] * 2
    assert (await exchange(home, (await pairing_token(home))["token"], DeviceKey.generate())).status_code == 201


async def test_a1_a_developer_may_withdraw_own_tokens_only(home: Home) -> None:
    dora, dan = await home.person("dora", home=Role.DEVELOPER), await home.person("dan", home=Role.DEVELOPER)
    made = await pairing_token(home, dora)
    path = f"/api/pairing-tokens/{made['id']}"
    assert (await home.call("GET", path, dan)).status_code == 200
    assert (await home.call("DELETE", path, dan)).json()["code"] == "forbidden"
    paired = (await exchange(home, made["token"], DeviceKey.generate())).json()
    assert (await home.call("DELETE", path, dora)).status_code == 204
    # What her token has let in is hers.
    assert (await home.call("DELETE", f"/api/devices/{paired['device']['id']}", dan)).json()["code"] == "forbidden"
    assert (await home.call("DELETE", f"/api/devices/{paired['device']['id']}", dora)).status_code == 204


async def test_a2_a_pairing_token_of_another_team_does_not_exist(home: Home) -> None:
    made = await pairing_token(home)
    away = await home.team("away")
    zoe = await home.person("zoe", away=Role.ADMIN)
    for method in ("GET", "DELETE"):
        answer = await home.call(method, f"/api/pairing-tokens/{made['id']}", zoe)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_pairing_token")
    refused = await home.call("POST", "/api/pairing-tokens", zoe, json={"team": "home"})
    assert (refused.status_code, refused.json()["code"]) == (404, "no_such_team")
    assert (await pairing_token(home, zoe))["team"] == away


async def test_a_pairing_token_is_kept_as_a_hash(home: Home) -> None:
    made = await pairing_token(home)
    async with home.database.administer() as connection:
        rows = (await connection.exec_driver_sql("SELECT * FROM pairing_tokens")).all()
    assert made["token"] not in str(rows) + str(home.audit.lines)
    assert made["start"] == made["token"][:10]
