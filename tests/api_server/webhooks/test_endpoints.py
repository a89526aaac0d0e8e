"""`/api/webhooks`: what is kept, shown, refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.teams.roles import Role
from api_server.webhooks.tables import webhook_deliveries, webhook_events, webhooks
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY
from tests.api_server.people import PROGRAM, Home, running_domains
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

BODY = {"name": "ops", "url": "https://hooks.test/in?key=1", "events": ["session.*", "token.revoked"]}


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


@pytest.fixture
async def one_home(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    """On SQLite: for what never gets as far as the database."""
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, running_domains(database, signer) as running:
            yield running


async def test_a_webhook_is_made_shown_changed_and_deleted(home: Home) -> None:
    made = (await home.call("POST", "/api/webhooks", PROGRAM, json=BODY)).json()
    assert made["secret"].startswith("whsec_")
    one = f"/api/webhooks/{made['id']}"
    shown = (await home.call("GET", one, PROGRAM)).json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    changed = (await home.call("PATCH", one, PROGRAM, json={"name": "dev", "events": ["*"]})).json()
    assert (changed["name"], changed["events"], changed["url"]) == ("dev", ["*"], BODY["url"])
    disabled = (await home.call("PATCH", one, PROGRAM, json={"disabled": True})).json()
    assert disabled["disabled_reason"] == "by_hand"
    assert (await home.call("POST", f"{one}/test", PROGRAM)).json()["code"] == "webhook_disabled"
    assert (await home.call("PATCH", one, PROGRAM, json={"disabled": False})).json()["disabled_at"] is None
    sent = (await home.call("POST", f"{one}/test", PROGRAM)).json()
    assert (sent["type"], sent["state"], sent["attempts"]) == ("webhook.test", "pending", 0)
    assert (await home.call("DELETE", one, PROGRAM)).status_code == 204
    assert (await home.call("GET", one, PROGRAM)).json()["code"] == "no_such_webhook"
    assert home.audit.actions == [
        "webhook.created",
        "webhook.changed",
        "webhook.changed",
        "webhook.changed",
        "webhook.tested",
        "webhook.deleted",
    ]
    assert "key=1" not in str(home.audit.lines)


async def test_lists_go_by_pages(home: Home) -> None:
    for number in range(3):
        assert (await home.call("POST", "/api/webhooks", PROGRAM, json=BODY | {"name": str(number)})).status_code == 201
    page = (await home.call("GET", "/api/webhooks", PROGRAM, params={"limit": 2})).json()
    rest = (await home.call("GET", "/api/webhooks", PROGRAM, params={"cursor": page["next"]})).json()
    assert sorted(each["name"] for each in page["items"] + rest["items"]) == ["0", "1", "2"]
    assert rest["next"] is None
    one = f"/api/webhooks/{page['items'][0]['id']}"
    sent = []
    for _ in range(3):
        sent.append((await home.call("POST", f"{one}/test", PROGRAM)).json()["id"])
        home.clock.advance(1.5)
    page = (await home.call("GET", f"{one}/deliveries", PROGRAM, params={"limit": 2})).json()
    rest = (await home.call("GET", f"{one}/deliveries", PROGRAM, params={"cursor": page["next"]})).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == sent[::-1]
    delivered = await home.call("GET", f"{one}/deliveries", PROGRAM, params={"state": "delivered"})
    assert delivered.json()["items"] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.test/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://192.168.1.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://user:password@hooks.test/",
        "https://hooks.test/#fragment",
        "ftp://hooks.test/",
        "file:///etc/passwd",
        "https:///path",
        "https://hooks.test:0/",
        "https://hooks.test/\r\nX-Evil: 1",
        "//hooks.test/",
    ],
)
async def test_g3_urls_that_can_be_no_target_are_refused_when_saved(one_home: Home, url: str) -> None:
    answer = await one_home.call("POST", "/api/webhooks", PROGRAM, json=BODY | {"url": url})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "target_refused"
    made = (await one_home.call("POST", "/api/webhooks", PROGRAM, json=BODY)).json()
    answer = await one_home.call("PATCH", f"/api/webhooks/{made['id']}", PROGRAM, json={"url": url})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "given",
    [
        {"events": []},
        {"events": ["session"]},
        {"events": ["session."]},
        {"events": ["*.*"]},
        {"events": ["Session.online"]},
        {"events": ["a.b.c"]},
        {"events": ["*"] * 51},
        {"name": ""},
        {"name": "x" * 101},
        {"url": "https://hooks.test/" + "x" * 2048},
        {"secret": "whsec_mine"},
        {"id": "whk_mine"},
    ],
)
async def test_hostile_bodies_are_422(one_home: Home, given: dict[str, object]) -> None:
    answer = await one_home.call("POST", "/api/webhooks", PROGRAM, json=BODY | given)
    assert answer.status_code == 422, answer.text


async def test_hostile_cursors_and_overlaps_are_422(one_home: Home) -> None:
    one = f"/api/webhooks/{(await one_home.call('POST', '/api/webhooks', PROGRAM, json=BODY)).json()['id']}"
    for cursor in ("x", "1-", "-dlv", "9" * 30 + "-x", "²-x"):
        answer = await one_home.call("GET", f"{one}/deliveries", PROGRAM, params={"cursor": cursor})
        assert answer.status_code == 422, cursor
    for overlap in (-1, 7 * 24 * 3600 + 1, "1h"):
        answer = await one_home.call("POST", f"{one}/rotate-secret", PROGRAM, json={"overlap": overlap})
        assert answer.status_code == 422
    answer = await one_home.call("POST", f"{one}/deliveries/dlv_none/retry", PROGRAM)
    assert answer.json()["code"] == "no_such_delivery"


async def test_a_team_has_so_many_webhooks(one_home: Home) -> None:
    for _ in range(50):
        assert (await one_home.call("POST", "/api/webhooks", PROGRAM, json=BODY)).status_code == 201
    assert (await one_home.call("POST", "/api/webhooks", PROGRAM, json=BODY)).json()["code"] == "too_many_webhooks"


async def test_a2_another_teams_webhook_is_not_there_even_by_its_id(home: Home) -> None:
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    made = (await home.call("POST", "/api/webhooks", PROGRAM, json=BODY)).json()
    one = f"/api/webhooks/{made['id']}"
    own = f"/api/webhooks/{(await home.call('POST', '/api/webhooks', zoe, json=BODY)).json()['id']}"
    sent = (await home.call("POST", f"{one}/test", PROGRAM)).json()["id"]
    for method, path, body in (
        ("GET", one, None),
        ("PATCH", one, {"name": "mine"}),
        ("DELETE", one, None),
        ("POST", f"{one}/rotate-secret", {}),
        ("POST", f"{one}/test", None),
        ("GET", f"{one}/deliveries", None),
        ("POST", f"{one}/deliveries/{sent}/retry", None),
    ):
        answer = await home.call(method, path, zoe, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_webhook"), path
    # Nor by way of one's own.
    answer = await home.call("POST", f"{own}/deliveries/{sent}/retry", zoe)
    assert answer.json()["code"] == "no_such_delivery"


async def test_a_deleted_team_leaves_nothing(home: Home) -> None:
    await home.team(AWAY)
    admin = home.people["hp_admin-of-away"]
    made = (await home.call("POST", "/api/webhooks", admin, json=BODY)).json()
    assert (await home.call("POST", f"/api/webhooks/{made['id']}/test", admin)).status_code == 202
    assert (await home.call("DELETE", f"/api/teams/{AWAY}", admin)).status_code == 204
    for table in (webhooks, webhook_events, webhook_deliveries):
        query = select(func.count()).select_from(table)
        assert (await home.database.read(lambda tx: tx.execute(query))).scalar_one() == 0  # noqa: B023
