"""The device flow: P2 and RFC 8628, on each database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api_server.db.database import Database
from api_server.devices.pairing.authorizations import normal_user_code
from api_server.teams.roles import Role
from common.crypto.api_tokens import stored_hash
from common.crypto.device_keys import DeviceKey, Purpose, thumbprint
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.people import PROGRAM, Home, Person, running_domains

pytestmark = pytest.mark.anyio

KEY = DeviceKey.generate()
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def begin(home: Home, name: str = "lathe", key: DeviceKey = KEY) -> Any:
    proof = key.prove(Purpose.AUTHORIZE, name, home.clock.wall())
    body = {"name": name, "public_key": key.public, "proof": proof, "agent": "homeport-agent/0.1.0 linux"}
    answer = await home.call("POST", "/api/device-authorization", None, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def poll(home: Home, codes: Any, key: DeviceKey = KEY) -> httpx.Response:
    proof = key.prove(Purpose.POLL, stored_hash(Secret(codes["device_code"])), home.clock.wall())
    body = {"grant_type": GRANT, "device_code": codes["device_code"], "proof": proof}
    return await home.call("POST", "/api/device-token", None, json=body)


async def decide(home: Home, who: Person, codes: Any, decision: str = "approve", **more: Any) -> httpx.Response:
    body = {"user_code": codes["user_code"], "decision": decision, **more}
    return await home.call("POST", "/api/device-approvals", who, json=body)


async def test_p2_a_device_shows_a_code_and_a_person_approves_it(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    codes = await begin(home)
    assert re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", codes["user_code"])
    assert codes["verification_uri"] == "http://api.test/device"
    assert codes["verification_uri_complete"].endswith(f"?user_code={codes['user_code']}")
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    pending = await poll(home, codes)
    assert (pending.status_code, pending.json()["code"]) == (400, "authorization_pending")
    shown = await home.call("GET", "/api/device-approvals", ann, params={"user_code": codes["user_code"]})
    assert shown.json() == {
        "user_code": codes["user_code"],
        "name": "lathe",
        "key_thumbprint": thumbprint(KEY.public),
        "address": "127.0.0.1",
        "agent": "homeport-agent/0.1.0 linux",
        "created_at": home.clock.wall(),
        "expires_at": home.clock.wall() + 600,
    }
    assert (await home.call("GET", "/api/devices", ann)).json()["items"] == []  # to look at it approves nothing
    assert (await decide(home, ann, codes)).status_code == 204
    home.clock.advance(5)
    paired = (await poll(home, codes)).json()
    assert (paired["device"]["name"], paired["device"]["team"]) == ("lathe", "home")
    device = (await home.call("GET", "/api/devices/lathe", ann)).json()
    assert (device["paired"], device["created_by"]) == (True, f"user:{ann.id}")
    assert home.audit.actions == ["device_request.approved", "device.paired"]


async def test_p3_a_lost_answer_is_asked_for_again(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    codes = await begin(home)
    await decide(home, ann, codes)
    first, second = await asyncio.gather(poll(home, codes), poll(home, codes))
    assert first.json()["device"] == second.json()["device"]
    assert len((await home.call("GET", "/api/devices", ann)).json()["items"]) == 1


async def test_p2_it_can_be_denied_and_that_is_final(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    codes = await begin(home)
    assert (await decide(home, ann, codes, "deny")).status_code == 204
    assert (await decide(home, ann, codes)).json()["code"] == "no_such_user_code"
    assert (await poll(home, codes)).json()["code"] == "access_denied"


async def test_of_two_who_decide_at_once_one_does(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    codes = await begin(home)
    answers = await asyncio.gather(decide(home, ann, codes), decide(home, ann, codes, "deny"))
    assert sorted(answer.status_code for answer in answers) == [204, 404]


async def test_a_device_that_asks_too_often_is_slowed_down(home: Home) -> None:
    codes = await begin(home)
    assert (await poll(home, codes)).json()["code"] == "authorization_pending"
    slow = await poll(home, codes)
    assert (slow.json()["code"], slow.headers["Retry-After"]) == ("slow_down", "10")
    home.clock.advance(5)
    assert (await poll(home, codes)).json()["code"] == "slow_down"
    home.clock.advance(15)
    assert (await poll(home, codes)).json()["code"] == "authorization_pending"


async def test_a_request_expires(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    codes = await begin(home)
    home.clock.advance(600)
    assert (await poll(home, codes)).json()["code"] == "expired_token"
    assert (await decide(home, ann, codes)).json()["code"] == "no_such_user_code"


async def test_p2_only_a_person_who_may_create_devices_decides(home: Home) -> None:
    viewer = await home.person("vic", home=Role.VIEWER)
    codes = await begin(home)
    assert (await decide(home, viewer, codes)).json()["code"] == "forbidden"
    assert (await decide(home, PROGRAM, codes)).json()["code"] == "forbidden"
    await home.team("away")
    ann = await home.person("ann", home=Role.ADMIN)
    refused = await decide(home, ann, codes, team="away")
    assert (refused.status_code, refused.json()["code"]) == (404, "no_such_team")
    assert (await poll(home, codes)).json()["code"] == "authorization_pending"


async def test_p2_wrong_codes_are_limited(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    codes = await begin(home)
    answers = [await decide(home, ann, {"user_code": "BBBB-BBBB"}) for _ in range(12)]
    assert [answer.status_code for answer in answers] == [404] * 10 + [429] * 2
    # The right one has to wait as well, or guessing would go on.
    assert (await decide(home, ann, codes)).json()["code"] == "too_many_codes"
    home.clock.advance(60)
    assert (await decide(home, ann, codes)).status_code == 204


async def test_p3_a_device_code_is_of_no_use_without_the_key(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    codes = await begin(home)
    await decide(home, ann, codes)
    assert (await poll(home, codes, DeviceKey.generate())).json()["code"] == "invalid_proof"
    proof = KEY.prove(Purpose.POLL, stored_hash(Secret(codes["device_code"])), home.clock.wall())
    body = {"grant_type": GRANT, "device_code": codes["device_code"], "proof": proof}
    assert (await home.call("POST", "/api/device-token", None, json=body)).status_code == 200
    assert (await home.call("POST", "/api/device-token", None, json=body)).json()["code"] == "invalid_proof"


async def test_the_one_who_approves_chooses_the_name(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    await home.call("POST", "/api/devices", ann, json={"name": "lathe"})
    codes = await begin(home)
    await decide(home, ann, codes)
    assert (await poll(home, codes)).json()["code"] == "device_name_taken"
    codes = await begin(home)
    await decide(home, ann, codes, name="mill")
    assert (await poll(home, codes)).json()["device"]["name"] == "mill"


@pytest.mark.parametrize("device_code", ["", "x", "A" * 43, "ä"])
async def test_a_device_code_that_is_none(home: Home, device_code: str) -> None:
    answer = await poll(home, {"device_code": device_code})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_grant")


async def test_another_grant_is_not_taken(home: Home) -> None:
    body = {"grant_type": "client_credentials", "device_code": "x", "proof": "x"}
    assert (await home.call("POST", "/api/device-token", None, json=body)).json()["code"] == "validation_failed"


async def test_requests_from_one_address_are_limited(home: Home) -> None:
    for _ in range(10):
        await begin(home)
    proof = KEY.prove(Purpose.AUTHORIZE, "lathe", home.clock.wall())
    body = {"name": "lathe", "public_key": KEY.public, "proof": proof}
    refused = await home.call("POST", "/api/device-authorization", None, json=body)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_codes")


@pytest.mark.parametrize("written", ["bcdf-ghjk", "BCDFGHJK", " bcdf ghjk ", "b-c-d-f-g-h-j-k"])
def test_a_user_code_is_understood_as_people_write_it(written: str) -> None:
    assert normal_user_code(written) == "BCDFGHJK"
