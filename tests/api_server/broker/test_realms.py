"""Realms and secrets as they are managed: shapes, roles, what is shown and what never is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.interfaces import Action
from api_server.broker.records import TokenKey
from api_server.broker.seals import Seals
from api_server.broker.store import BrokerStore
from api_server.broker.tables import realm_secrets, realm_tokens
from api_server.db.engine import Kind
from api_server.teams.roles import Role, actions_of
from common.crypto.errors import SealBrokenError
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.broker.stage import CSRF, SECRET, BrokerStage, brokered
from tests.api_server.fakes import HOME
from tests.api_server.people import PROGRAM
from tests.databases.fixtures import FreshDatabase
from tests.stack.provider import TokenProvider, token_provider

pytestmark = pytest.mark.anyio


@pytest.fixture
def provider() -> Iterator[TokenProvider]:
    with token_provider() as running:
        yield running


@pytest.fixture
def url(fresh_database: FreshDatabase) -> Iterator[str]:
    with fresh_database(Kind.SQLITE) as fresh:
        yield fresh


@pytest.fixture
async def stage(
    anyio_backend: str, url: str, signer: SessionTokenSigner, provider: TokenProvider
) -> AsyncIterator[BrokerStage]:
    async with brokered(url, signer, provider) as made:
        yield made


async def test_wechat_official_account_as_it_is_written(stage: BrokerStage) -> None:
    """The example of other brokers, word for word but for the address of the provider."""
    made = await stage.ok(
        "POST",
        "/api/realm",
        {
            "id": "wxgzh",
            "comment": "",
            "config": {
                "url": f"{stage.provider.url}/cgi-bin/token",
                "method": "GET",
                "content_type": "json",
                "arguments": [
                    {"name": "appid", "place": "url", "value": "$key_1"},
                    {"name": "secret", "place": "url", "value": "$key_2"},
                    {"name": "grant_type", "place": "url", "value": "$key_3"},
                ],
                "token_path": "access_token",
                "expires_in_path": "expires_in",
            },
        },
    )
    assert (made["id"], made["team"], made["config"]["token_path"]) == ("wxgzh", "home", "access_token")
    fields = {"key_1": "wx-app", "key_2": SECRET, "key_3": "client_credential"}
    made = await stage.ok("POST", "/api/secret", {"realm": "wxgzh", "key": "wxgzh_secret", **fields})
    assert (made["key_1"], made["key_2"], made["key_3"], made["key_4"]) == ("***", "***", "***", None)
    got = (await stage.get("wxgzh", "wxgzh_secret", flush="false")).json()
    assert (got["token"], got["expires_in"], got["source"]) == ("token-1", 7_200_000, "upstream")
    assert (await stage.get("wxgzh", "wxgzh_secret", flush="false")).json()["source"] == "database"
    (call,) = stage.provider.calls
    assert call.query == {"appid": "wx-app", "secret": SECRET, "grant_type": "client_credential"}


async def test_wechat_work_by_its_preset(stage: BrokerStage) -> None:
    config = {"preset": "wechat-work", "url": f"{stage.provider.url}/cgi-bin/gettoken"}
    await stage.ok("POST", "/api/realm", {"id": "work", "config": config})
    await stage.ok("POST", "/api/secret", {"realm": "work", "key": "app", "key_1": "corp", "key_2": SECRET})
    assert await stage.token(realm="work", key="app") == "token-1"
    assert stage.provider.calls[0].query == {"corpid": "corp", "corpsecret": SECRET}
    await stage.ok("PATCH", "/api/secret/work/app", {"key_2": "wrong"})
    status, code, _ = await stage.refusal(realm="work", key="app")
    assert (status, code) == (502, "provider_refused")


async def test_oauth_client_credentials_by_its_preset(stage: BrokerStage) -> None:
    """RFC 6749 section 4.4.2."""
    config = {"preset": "oauth2-client-credentials", "url": f"{stage.provider.url}/token"}
    await stage.ok("POST", "/api/realm", {"id": "oauth", "config": config})
    fields = {"client_id": "me", "client_secret": SECRET}
    await stage.ok("POST", "/api/secret", {"realm": "oauth", "key": "app", "fields": fields})
    await stage.token(realm="oauth", key="app")
    (call,) = stage.provider.calls
    assert (call.method, call.body) == ("POST", b"grant_type=client_credentials")
    assert call.headers["authorization"].startswith("Basic ")
    assert call.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_lists_have_the_shape_that_programs_know(stage: BrokerStage) -> None:
    for name in ("beta", "alpha", "gamma"):
        await stage.realm(name)
        await stage.secret(name, "one")
        await stage.secret(name, "two")
    await stage.ok("PATCH", "/api/realm/gamma", {"comment": "The Alphabet's third"})

    async def listed(path: str) -> tuple[list[str], int, str | None]:
        page = await stage.ok("GET", path)
        assert page["success"] == "ok"
        names = [each["id"] if "id" in each else f"{each['realm']}/{each['key']}" for each in page["data"]["list"]]
        return names, page["data"]["total"], page["next"]

    assert await listed("/api/realm") == (["alpha", "beta", "gamma"], 3, None)
    assert await listed("/api/realm?page=1&pageSize=2&keyword=") == (["alpha", "beta"], 3, "beta")
    assert await listed("/api/realm?page=2&pageSize=2&keyword=") == (["gamma"], 3, None)
    assert await listed("/api/realm?keyword=ALPHA") == (["alpha", "gamma"], 2, None)
    assert await listed("/api/realm?limit=1&cursor=alpha") == (["beta"], 3, "beta")
    assert await listed("/api/secret?realm=beta") == (["beta/one", "beta/two"], 2, None)
    assert (await listed("/api/secret?limit=3"))[0] == ["alpha/one", "alpha/two", "beta/one"]
    assert (await listed("/api/secret?limit=3&cursor=beta/one"))[0] == ["beta/two", "gamma/one", "gamma/two"]
    answer = await stage.home.call("GET", "/api/secret?realm=nobody", PROGRAM)
    assert answer.json()["code"] == "no_such_realm"


async def test_what_is_there_already_and_what_is_not(stage: BrokerStage) -> None:
    await stage.realm()
    await stage.secret()
    config = {"kind": "fixed", "token": "$key_1"}

    async def code(method: str, path: str, body: Any = None) -> str:
        answer = await stage.home.call(method, path, PROGRAM, json=body)
        assert answer.status_code >= 400, answer.text
        return str(answer.json()["code"])

    assert await code("POST", "/api/realm", {"id": "r", "config": config}) == "realm_exists"
    assert await code("POST", "/api/realm", {"id": "a/b", "config": config}) == "validation_failed"
    assert await code("POST", "/api/realm", {"id": "x", "config": {"preset": "nobody"}}) == "realm_invalid"
    assert (
        await code("POST", "/api/secret", {"realm": "r", "key": "k", "key_1": "a", "key_2": "b"})
        == "realm_secret_exists"
    )
    assert await code("POST", "/api/secret", {"realm": "no", "key": "k", "key_1": "a"}) == "no_such_realm"
    assert await code("POST", "/api/secret", {"realm": "r", "key": "new", "key_1": "a"}) == "realm_secret_invalid"
    assert await code("PATCH", "/api/secret/r/k", {"key_2": None}) == "realm_secret_invalid"
    # A reference to a field that a secret lacks is refused when it is saved.
    arguments = [{"name": "x", "place": "url", "value": "$key_3"}]
    assert await code("PATCH", "/api/realm/r", {"config": {"arguments": arguments}}) == "realm_invalid"
    await stage.ok("PATCH", "/api/secret/r/k", {"key_3": "c"})
    await stage.ok("PATCH", "/api/realm/r", {"config": {"arguments": arguments}})
    for path in ("/api/realm/no", "/api/realm/no/fetches"):
        assert await code("GET", path) == "no_such_realm"
    for method in ("GET", "DELETE"):
        assert await code(method, "/api/secret/r/no") == "no_such_realm_secret"


async def test_the_values_of_a_secret_are_shown_to_nobody(stage: BrokerStage, url: str) -> None:
    """Planted, and looked for: in every answer, the audit log, the log of fetches, and the database file."""
    planted = "canary-7f3a91c2"
    stage.provider.secret = planted
    config = {"arguments": [{"name": "secret", "place": "url", "value": "$key_1"}], "message_path": "errmsg"}
    await stage.realm(**config)
    seen = [
        await stage.home.call("POST", "/api/secret", PROGRAM, json={"realm": "r", "key": "k", "key_1": planted}),
        await stage.home.call("POST", "/api/secret", PROGRAM, json={"realm": "r", "key": "bad", "key_9": planted}),
        await stage.home.call("GET", "/api/secret", PROGRAM),
        await stage.home.call("GET", "/api/secret/r/k", PROGRAM),
        await stage.home.call("PATCH", "/api/secret/r/k", PROGRAM, json={"key_2": planted}),
        await stage.home.call("POST", "/api/realm/r/test", PROGRAM, json={}),
        await stage.get(),
        await stage.home.call("GET", "/api/realm/r/fetches", PROGRAM),
    ]
    stage.provider.mode = "refused"
    seen.append(await stage.get(flush="true"))
    seen.append(await stage.home.call("GET", "/api/realm/r/fetches", PROGRAM))
    assert seen[-2].status_code == 502
    assert not [answer.request.url for answer in seen if planted in answer.text]
    assert planted not in str(stage.home.audit.lines)
    assert "token-1" not in str(stage.home.audit.lines)
    file = Path(make_url(url).database or "")
    kept = b"".join(each.read_bytes() for each in file.parent.iterdir() if each.name.startswith(file.name))
    assert b"realm_secrets" in kept
    assert planted.encode() not in kept
    assert b"token-1" not in kept


async def test_c1_what_is_sealed_opens_in_its_own_place_alone(stage: BrokerStage) -> None:
    await stage.realm()
    for key in ("k", "l"):
        await stage.secret(key=key)
        await stage.token(key=key)
    seals, store = Seals(stage.home.domains.envelope), BrokerStore()
    one = await stage.home.database.read(lambda tx: store.state(tx, TokenKey(HOME, "r", "k")))
    other = TokenKey(HOME, "r", "l")
    two = await stage.home.database.read(lambda tx: store.state(tx, other))
    assert seals.open_token(other, two.token).reveal() == "token-2"
    for moved in (realm_tokens, realm_secrets):

        async def swap(tx: AsyncConnection, table: Any = moved) -> None:
            found = (await tx.execute(select(table.c.sealed).where(table.c.key == "k"))).scalar_one()
            await tx.execute(table.update().where(table.c.key == "l").values(sealed=found))

        await stage.home.database.write(swap)
    mixed = await stage.home.database.read(lambda tx: store.state(tx, other))
    with pytest.raises(SealBrokenError):
        seals.open_token(other, mixed.token)
    with pytest.raises(SealBrokenError):
        seals.open_fields(other, mixed.secret)
    assert seals.open_fields(one.key, one.secret)["key_2"] == SECRET


async def test_a_dry_run_asks_nobody(stage: BrokerStage) -> None:
    await stage.realm(message_path="errmsg")
    shown = await stage.ok("POST", "/api/realm/r/test", {})
    assert shown == {
        "request": {
            "method": "GET",
            "url": f"{stage.provider.url}/token?appid=***&secret=***",
            "headers": {"Accept": "application/json, */*;q=0.5"},
            "body": None,
        },
        "fields": ["key_1", "key_2"],
        "answer": None,
    }
    answers = [
        ({"body": '{"access_token": "visible", "expires_in": 60}'}, (True, "***", 60_000, True, False, "")),
        ({"body": '{"access_token": "visible"}'}, (True, "***", 3_600_000, False, False, "")),
        ({"body": '{"errcode": 40001, "errmsg": "no"}'}, (False, None, None, False, True, "40001")),
        ({"body": "<html>"}, (False, None, None, False, False, "answer_unreadable")),
        ({"status": 503, "body": ""}, (False, None, None, False, False, "http_503")),
    ]
    for answer, wanted in answers:
        read = (await stage.ok("POST", "/api/realm/r/test", {"answer": answer}))["answer"]
        fields = ("ok", "token", "expires_in", "expires_in_said", "refused", "code")
        assert tuple(read[name] for name in fields) == wanted
    assert not stage.calls
    await stage.ok("POST", "/api/realm", {"id": "fixed", "config": {"kind": "fixed", "token": "$key_1"}})
    assert (await stage.ok("POST", "/api/realm/fixed/test", {}))["request"] is None


async def test_every_change_is_written_down(stage: BrokerStage) -> None:
    await stage.realm(arguments=[{"name": "key", "place": "url", "value": "a constant that is secret all the same"}])
    await stage.ok("PATCH", "/api/realm/r", {"comment": "x"})
    await stage.ok("POST", "/api/secret", {"realm": "r", "key": "k", "key_1": "v"})
    await stage.ok("PATCH", "/api/secret/r/k", {"key_1": "w"})
    await stage.ok("DELETE", "/api/secret/r/k")
    await stage.ok("DELETE", "/api/realm/r")
    assert stage.home.audit.actions == [
        "realm.created",
        "realm.changed",
        "realm_secret.created",
        "realm_secret.changed",
        "realm_secret.deleted",
        "realm.deleted",
    ]
    assert "a constant" not in str(stage.home.audit.lines)


async def test_a_team_that_is_deleted_leaves_nothing(stage: BrokerStage) -> None:
    await stage.home.team("away")
    zoe = await stage.home.person("zoe", away=Role.ADMIN)
    admin = await stage.ok("GET", "/api/teams/away/members", who=zoe)
    body = {"id": "r", "config": {"kind": "fixed", "token": "$key_1"}}
    await stage.ok("POST", "/api/realm", body, who=zoe)
    await stage.ok("POST", "/api/secret", {"realm": "r", "key": "k", "key_1": "theirs"}, who=zoe)
    assert (await stage.get(who=zoe)).json()["token"] == "theirs"
    for member in admin["items"]:
        if member["user"] != zoe.id:
            await stage.ok("DELETE", f"/api/teams/away/members/{member['user']}", who=zoe)
    await stage.ok("DELETE", "/api/teams/away", who=zoe)

    async def left(tx: AsyncConnection) -> list[str]:
        return list((await tx.execute(select(realm_secrets.c.key))).scalars())

    assert await stage.home.database.read(left) == []
    assert stage.home.domains.broker.cache.get("away", "r", "k", stage.home.clock.wall()) is None


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "of somebody else"])
async def test_a1_realms_and_secrets(stage: BrokerStage, role: Role, is_own: bool) -> None:
    ann, who = await stage.home.person("ann", home=Role.ADMIN), await stage.home.person("who", home=Role.DEVELOPER)
    maker = who if is_own else ann
    await stage.ok("POST", "/api/realm", {"id": "r", "config": {"kind": "fixed", "token": "$key_1"}}, who=maker)
    await stage.ok("POST", "/api/secret", {"realm": "r", "key": "k", "key_1": "v"}, who=maker)
    await stage.ok("PUT", f"/api/teams/home/members/{who.id}", {"role": role}, who=ann)
    may = actions_of(role)
    for any_of_them, own, calls in (
        (
            Action.REALM_SECRETS_CHANGE,
            Action.REALM_SECRETS_CHANGE_OWN,
            (("PATCH", "/api/secret/r/k", {"comment": "x"}), ("DELETE", "/api/secret/r/k", None)),
        ),
        (
            Action.REALMS_CHANGE,
            Action.REALMS_CHANGE_OWN,
            (("PATCH", "/api/realm/r", {"comment": "x"}), ("DELETE", "/api/realm/r", None)),
        ),
    ):
        allowed = any_of_them in may or (is_own and own in may)
        for method, path, body in calls:
            answer = await stage.home.call(method, path, who, json=body)
            assert (answer.status_code < 300) is allowed, (method, path, answer.text)
            assert allowed or answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("role", list(Role))
async def test_a1_flushing(stage: BrokerStage, role: Role) -> None:
    await stage.realm()
    await stage.secret()
    who = await stage.home.person("who", home=role)
    query = {"realm": "r", "key": "k", "flush": "true"}
    answer = await stage.home.call("GET", "/api/token", who, params=query, headers=CSRF)
    assert (answer.status_code == 200) is (Action.REALM_TOKENS_FLUSH in actions_of(role)), answer.text
