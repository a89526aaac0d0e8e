"""Connecting a provider: S1, S2 and S5 as they hold for connections, against a provider that is a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.tables import custody_records
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.tables import refresh_attempts
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import AWAY
from tests.api_server.people import PROGRAM
from tests.api_server.provider_tokens.double import CANARY, Double
from tests.api_server.provider_tokens.flow import PATH, Flow, staged
from tests.api_server.provider_tokens.stage import BASE
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
async def flow(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, double: Double, outbound: OutboundHttp
) -> AsyncIterator[Flow]:
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, staged(database, signer, double, outbound) as running:
            yield running


@pytest.mark.parametrize("provider", ["github", "gitlab", "bitbucket"])
@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
async def test_a_provider_is_connected(flow: Flow, provider: str, form: bool) -> None:
    flow.double.form = form
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    assert (await flow.home.call("GET", f"{PATH}/{provider}", ann)).json()["code"] == "not_connected"
    await flow.connect(ann, provider)
    shown = await flow.show(ann, provider)
    assert (shown["provider"], shown["team"], shown["state"]) == (provider, "home", "active")
    assert shown["refreshable"]
    assert shown["access_token_expires_at"] == flow.home.clock.wall() + 7200
    assert shown["refresh_token_expires_at"] is None
    handed = (await flow.hand_out(ann, provider)).json()
    assert handed["access_token"].startswith(f"{CANARY}-access-")
    assert (handed["token_type"], handed["expires_at"]) == ("Bearer", shown["access_token_expires_at"])
    assert [line.action for line in flow.home.audit.lines if line.action.startswith("provider")] == [
        "provider_token.connected",
        "provider_token.handed_out",
    ]
    assert CANARY not in repr(flow.home.audit.lines)
    events = [change.event for change in flow.home.changes.announced]
    assert events == ["provider_token.connected"]


@pytest.mark.parametrize("kind", [Kind.POSTGRESQL, Kind.MARIADB], ids=lambda kind: kind.name.lower())
async def test_the_whole_way_on_the_other_databases(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, double: Double, outbound: OutboundHttp, kind: Kind
) -> None:
    with fresh_database(kind) as url:
        async with Database.connect(url) as database, staged(database, signer, double, outbound) as flow:
            ann = await flow.home.person("ann", home=Role.DEVELOPER)
            browser = flow.browser(ann)
            brought = double.consent(await flow.begin(browser))
            kept = dict(browser.cookies)
            assert (await flow.come_back(browser, brought)).status_code == 303
            browser.cookies = kept
            assert (await flow.come_back(browser, brought)).json()["code"] == "connect_callback_replayed"
            first = (await flow.hand_out(ann)).json()["access_token"]
            flow.home.clock.advance(7200)
            assert (await flow.hand_out(ann)).json()["access_token"] != first
            await flow.connect(ann)
            gone = await flow.home.call("DELETE", f"{PATH}/gitlab", ann)
            assert gone.json() == {"revoked": True, "problem": None}
            await flow.connect(ann)
            assert (await flow.show(ann))["state"] == "active"


async def test_s2_the_cookie_is_of_its_own_and_for_one_provider(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    answer = await flow.browser(ann).get(f"{PATH}/gitlab/connect")
    (line,) = answer.headers.get_list("set-cookie")
    name, *attributes = line.split("; ")
    assert name.startswith("__Secure-homeport_connect_")
    assert attributes == ["Path=/api/provider-tokens/gitlab", "Max-Age=300", "Secure", "HttpOnly", "SameSite=Lax"]
    assert ann.id not in line


async def test_s2_several_under_way_and_the_oldest_makes_way(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    begun = []
    for _ in range(6):
        begun.append(flow.double.consent(await flow.begin(browser)))
        flow.home.clock.advance(1)
    assert len(browser.cookies) == 5
    assert (await flow.come_back(browser, begun[0])).json()["code"] == "invalid_connect_callback"
    assert (await flow.come_back(browser, begun[3])).status_code == 303
    assert (await flow.come_back(browser, begun[5])).status_code == 303
    assert len(browser.cookies) == 3


async def test_s5_callback_replay(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    brought = flow.double.consent(await flow.begin(browser))
    kept = dict(browser.cookies)
    assert (await flow.come_back(browser, brought)).status_code == 303
    assert (await flow.come_back(browser, brought)).json()["code"] == "invalid_connect_callback"
    browser.cookies = kept  # whoever has the cookie as well
    replayed = await flow.come_back(browser, brought)
    assert (replayed.status_code, replayed.json()["code"]) == (400, "connect_callback_replayed")
    assert flow.home.audit.lines[-1].outcome == "refused"


async def test_s5_the_state_of_another_browser(flow: Flow) -> None:
    """Somebody has a victim agree to what they had begun: neither gets what is the other's."""
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    mallory = await flow.home.person("mallory", home=Role.DEVELOPER)
    hers, theirs = flow.browser(ann), flow.browser(mallory)
    brought = flow.double.consent(await flow.begin(theirs))
    assert (await flow.come_back(hers, brought)).json()["code"] == "invalid_connect_callback"
    hers.cookies |= theirs.cookies  # planted by a site beside ours
    assert (await flow.come_back(hers, brought)).json()["code"] == "invalid_connect_callback"
    assert (await flow.home.call("GET", f"{PATH}/gitlab", ann)).status_code == 404


async def test_s5_a_stolen_code_is_worth_nothing_in_another_connection(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    mallory = await flow.home.person("mallory", home=Role.DEVELOPER)
    stolen = flow.double.consent(await flow.begin(flow.browser(ann)))
    theirs = flow.browser(mallory)
    own = flow.double.consent(await flow.begin(theirs))
    answer = await flow.come_back(theirs, own | {"code": stolen["code"]})
    assert (answer.status_code, answer.json()["code"]) == (400, "connect_code_refused")


async def test_s5_an_answer_of_another_provider(flow: Flow) -> None:
    """RFC 9207, and a callback of its own for each provider."""
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    brought = flow.double.consent(await flow.begin(browser))
    wrong = await flow.come_back(browser, brought | {"iss": "https://other.test"})
    assert wrong.json()["code"] == "invalid_connect_callback"
    assert (await flow.come_back(browser, brought, "bitbucket")).json()["code"] == "invalid_connect_callback"
    assert (await flow.come_back(browser, brought | {"iss": flow.double.url})).status_code == 303


async def test_s2_a_connection_that_takes_too_long(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    brought = flow.double.consent(await flow.begin(browser))
    flow.home.clock.advance(301)
    assert (await flow.come_back(browser, brought)).json()["code"] == "invalid_connect_callback"


async def test_somebody_who_says_no(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    brought = flow.double.consent(await flow.begin(browser))
    answer = await flow.come_back(browser, {"state": brought["state"], "error": "access_denied"})
    assert (answer.status_code, answer.json()["code"]) == (403, "consent_refused")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_s4_no_other_site_begins_a_connection(flow: Flow, site: str) -> None:
    """`same-site` is the gateway, where devices serve their pages."""
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    answer = await flow.browser(ann).get(f"{PATH}/gitlab/connect", **{"Sec-Fetch-Site": site})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
    assert "set-cookie" not in answer.headers
    own = await flow.browser(ann).get(f"{PATH}/gitlab/connect", **{"Sec-Fetch-Site": "same-origin"})
    assert own.status_code == 303


@pytest.mark.parametrize("target", ["https://evil.test", "//evil.test", "/\\evil.test", "evil", ""])
async def test_s4_no_open_redirect(flow: Flow, target: str) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    answer = await flow.home.call("GET", f"{PATH}/gitlab/connect", ann, params={"return_to": target})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_back_to_where_one_was(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    brought = flow.double.consent(await flow.begin(browser, query="?return_to=/connections?page=2"))
    assert (await flow.come_back(browser, brought)).headers["Location"] == f"{BASE}/connections?page=2"


async def test_a1_whose_role_has_changed_meanwhile_connects_nothing(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    brought = flow.double.consent(await flow.begin(browser))
    await flow.home.person("boss", home=Role.ADMIN)
    changed = await flow.home.call("PUT", f"/api/teams/home/members/{ann.id}", PROGRAM, json={"role": "VIEWER"})
    assert changed.status_code == 200, changed.text
    assert (await flow.come_back(browser, brought)).json()["code"] == "forbidden"
    assert not flow.double.asked


async def test_a_program_cannot_consent(flow: Flow) -> None:
    answer = await flow.home.call("GET", f"{PATH}/gitlab/connect", PROGRAM)
    assert (answer.status_code, answer.json()["code"]) == (403, "nobody_behind_token")


async def test_a_connection_belongs_to_its_team(flow: Flow) -> None:
    """A2: one row for each team, user and provider; another team's does not exist."""
    await flow.home.team(AWAY)
    ann = await flow.home.person("ann", home=Role.DEVELOPER, away=Role.DEVELOPER)
    bob = await flow.home.person("bob", home=Role.ADMIN)
    await flow.connect(ann, query="?team=home")
    assert (await flow.home.call("GET", f"{PATH}/gitlab?team=away", ann)).json()["code"] == "not_connected"
    await flow.connect(ann, query="?team=away")
    await flow.connect(ann, query="?team=home")  # once more: an update
    for team in ("home", "away"):
        items = (await flow.home.call("GET", f"{PATH}?team={team}", ann)).json()["items"]
        assert [(each["provider"], each["team"]) for each in items] == [("gitlab", team)]
    assert (await flow.home.call("GET", PATH, bob)).json()["items"] == []
    assert (await flow.hand_out(bob)).json()["code"] == "not_connected"
    assert (await flow.home.call("GET", f"{PATH}/gitlab?team=away", bob)).json()["code"] == "no_such_team"


async def test_the_list_is_cut_into_pages(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    for provider in ("github", "gitlab", "bitbucket"):
        await flow.connect(ann, provider)
    first = (await flow.home.call("GET", f"{PATH}?limit=2", ann)).json()
    last = (await flow.home.call("GET", PATH, ann, params={"limit": 2, "cursor": first["next"]})).json()
    assert [each["provider"] for each in first["items"] + last["items"]] == ["bitbucket", "github", "gitlab"]
    assert last["next"] is None


async def test_the_providers_page_by_page_without_a_secret(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.VIEWER)
    first = await flow.home.call("GET", "/api/providers?limit=2", ann)
    assert [each["id"] for each in first.json()["items"]] == ["bitbucket", "github"]
    last = await flow.home.call("GET", f"/api/providers?limit=2&cursor={first.json()['next']}", ann)
    assert [(each["id"], each["kind"], each["url"]) for each in last.json()["items"]] == [
        ("gitlab", "gitlab", flow.double.url)
    ]
    assert last.json()["next"] is None
    assert CANARY not in first.text + last.text


async def test_a_provider_that_is_away_while_the_code_is_redeemed(flow: Flow) -> None:
    ann = await flow.home.person("ann", home=Role.DEVELOPER)
    browser = flow.browser(ann)
    flow.double.mode = "error_500"
    answer = await flow.come_back(browser, flow.double.consent(await flow.begin(browser)))
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    assert answer.headers["Retry-After"] == "7"
    flow.double.mode = "invalid_client"
    answer = await flow.come_back(browser, flow.double.consent(await flow.begin(browser)))
    assert (answer.status_code, answer.json()["code"]) == (502, "provider_refuses_client")


async def test_a_team_that_is_deleted_takes_its_connections_along(flow: Flow) -> None:
    """And the marks of refreshes that have no answer; those of other teams stay."""
    boss = await flow.home.person("boss", home=Role.ADMIN)
    made = await flow.home.call("POST", "/api/teams", boss, json={"id": "away", "admin": boss.id})
    assert made.status_code == 201, made.text
    for team in ("home", "away"):
        await flow.connect(boss, query=f"?team={team}")
    flow.home.clock.advance(7200)
    flow.double.mode = "error_500"
    for team in ("home", "away"):
        assert (await flow.hand_out(boss, query=f"?team={team}")).status_code == 503
    assert (await flow.home.call("DELETE", "/api/teams/away", boss)).status_code == 204

    async def left(tx: AsyncConnection) -> tuple[list[str], list[str]]:
        sealed = select(custody_records.c.team_id).where(custody_records.c.sealed.is_not(None))
        marks = select(refresh_attempts.c.team_id)
        return list((await tx.execute(sealed)).scalars()), list((await tx.execute(marks)).scalars())

    assert await flow.home.database.read(left) == (["home"], ["home"])
