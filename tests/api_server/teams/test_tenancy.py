"""What belongs to one team does not exist for another (A2): each endpoint is fired at things of the first team with the
identity of the ADMIN of another, on each database; and nothing of the first team is shown, or changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from api_server.auth.interfaces import INSTALLATION_ACTIONS
from api_server.db.database import Database
from api_server.db.schema import METADATA
from api_server.relay.events import EventKind, SessionEvent
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import DeviceId, TeamId
from tests.api_server.audit.stage import Stage
from tests.api_server.fakes import AWAY, HOME, summary
from tests.api_server.people import Home, Person, running_domains

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner, tmp_path: Any) -> AsyncIterator[Home]:
    async with running_domains(database, signer, audit=Stage(database, tmp_path).log) as running:
        yield running


async def furnish(home: Home, who: Person, team: TeamId, number: int) -> dict[str, str]:
    """One of everything, in a team that `who` is ADMIN of; the ids."""

    async def made(api: str, /, **body: Any) -> Any:
        answer = await home.call("POST", api, who, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    device = await made("/api/devices", team=team, name=f"lathe-{number}")
    token = await made(f"/api/devices/{device['id']}/session-tokens?team={team}")
    pairing = await made("/api/pairing-tokens", team=team)
    program = await made("/api/api-tokens", team=team, name="ci", scopes=["devices:read"])
    invited = await made("/api/invitations", email="new@example.org", teams=[{"team": team, "role": "VIEWER"}])
    backend = "https://api.example.org"
    secret = await made("/api/upstream-secrets", team=team, name="key", destination=backend, value="v")
    route = await made(
        "/api/routes", team=team, name=f"route-{number}", path=f"/{number}", target={"kind": "url", "url": backend}
    )
    fixed = {"kind": "fixed", "token": "$key_1"}
    realm = await made("/api/realm", team=team, id=f"realm-{number}", config=fixed)
    application = await made("/api/secret", team=team, realm=realm["id"], key=f"application-{number}", key_1="v")
    hook = await made("/api/webhooks", team=team, name="ops", url="https://hooks.example.org/in", events=["*"])
    sent = await home.call("POST", f"/api/webhooks/{hook['id']}/test?team={team}", who)
    assert sent.status_code == 202
    live = msgspec.structs.replace(summary(number, team=team), device=DeviceId(device["id"]))
    home.sessions.sessions[live.id] = live
    return {
        "device": device["id"],
        "name": device["name"],
        "session token": token["id"],
        "pairing token": pairing["id"],
        "API token": program["id"],
        "invitation": invited["id"],
        "upstream secret": secret["id"],
        "route": route["id"],
        "webhook": hook["id"],
        "delivery": sent.json()["id"],
        "invitation's secret": invited["token"],
        "session": live.id,
        "realm": realm["id"],
        "realm secret": application["key"],
    }


async def everything(database: Database) -> str:
    """All that is in the database."""
    async with database.administer() as connection:
        rows = [str((await connection.execute(each.select())).all()) for each in METADATA.sorted_tables]
        await connection.rollback()
    return "\n".join(rows)


def requests(ids: dict[str, str], user: str) -> list[tuple[str, str, Any]]:
    """Each way to reach what `ids` names, with a body that would do."""
    pairing, invitation, session = ids["pairing token"], ids["invitation"], ids["session"]
    of_devices = [
        request
        for device in (f"/api/devices/{ids['device']}", f"/api/devices/{ids['name']}")
        for request in (
            ("GET", device, None),
            ("PATCH", device, {"name": "mine", "disabled": True}),
            ("DELETE", device, None),
            ("POST", f"{device}/revoke", None),
            ("GET", f"{device}/session-tokens", None),
            ("POST", f"{device}/session-tokens", {}),
            ("DELETE", f"{device}/session-tokens/{ids['session token']}", None),
        )
    ]
    secret, route = f"/api/upstream-secrets/{ids['upstream secret']}", f"/api/routes/{ids['route']}"
    webhook = f"/api/webhooks/{ids['webhook']}"
    to_lathe = {
        "name": "mine",
        "path": "/mine",
        "target": {"kind": "device", "device": ids["device"], "service": "web"},
    }
    realm = f"/api/realm/{ids['realm']}"
    application = f"/api/secret/{ids['realm']}/{ids['realm secret']}"
    return [
        *of_devices,
        ("GET", realm, None),
        ("PATCH", realm, {"comment": "mine"}),
        ("DELETE", realm, None),
        ("GET", f"{realm}/fetches", None),
        ("POST", f"{realm}/test", {}),
        ("POST", "/api/realm", {"team": "home", "id": "mine", "config": {"kind": "fixed", "token": "$key_1"}}),
        ("GET", application, None),
        ("PATCH", application, {"key_1": "mine"}),
        ("DELETE", application, None),
        ("POST", "/api/secret", {"team": "home", "realm": ids["realm"], "key": "mine", "key_1": "v"}),
        ("GET", secret, None),
        ("PATCH", secret, {"value": "mine"}),
        ("DELETE", secret, None),
        ("GET", route, None),
        ("PATCH", route, {"name": "mine"}),
        ("DELETE", route, None),
        ("POST", "/api/routes", {"team": "home", **to_lathe}),
        ("POST", "/api/upstream-secrets", {"team": "home", "name": "x", "destination": "https://x.org", "value": "v"}),
        ("GET", f"/api/api-tokens/{ids['API token']}", None),
        ("PATCH", f"/api/api-tokens/{ids['API token']}", {"name": "mine"}),
        ("POST", f"/api/api-tokens/{ids['API token']}/rotate", {}),
        ("DELETE", f"/api/api-tokens/{ids['API token']}", None),
        ("GET", f"/api/limits/token/{ids['API token']}", None),
        ("PUT", f"/api/limits/token/{ids['API token']}", {"streams": 1}),
        ("GET", f"/api/limits/route/{ids['route']}", None),
        ("PUT", f"/api/limits/route/{ids['route']}", {"streams": 1}),
        ("GET", webhook, None),
        ("PATCH", webhook, {"name": "mine", "url": "https://mine.example.org/"}),
        ("DELETE", webhook, None),
        ("POST", f"{webhook}/rotate-secret", {}),
        ("POST", f"{webhook}/test", None),
        ("GET", f"{webhook}/deliveries", None),
        ("POST", f"{webhook}/deliveries/{ids['delivery']}/retry", None),
        ("POST", "/api/webhooks", {"team": "home", "name": "x", "url": "https://x.org/", "events": ["*"]}),
        ("GET", f"/api/pairing-tokens/{pairing}", None),
        ("DELETE", f"/api/pairing-tokens/{pairing}", None),
        ("GET", f"/api/sessions/{session}", None),
        ("DELETE", f"/api/sessions/{session}", None),
        ("GET", f"/api/invitations/{invitation}", None),
        ("DELETE", f"/api/invitations/{invitation}", None),
        ("GET", "/api/provider-tokens/github", None),
        ("DELETE", "/api/provider-tokens/github", None),
        ("GET", "/api/provider-tokens/github/connect", None),
        ("POST", "/api/provider-tokens/github/access-token", None),
        ("GET", "/api/teams/home", None),
        ("PATCH", "/api/teams/home", {"name": "mine"}),
        ("DELETE", "/api/teams/home", None),
        ("GET", "/api/teams/home/members", None),
        ("PUT", f"/api/teams/home/members/{user}", {"role": "VIEWER"}),
        ("DELETE", f"/api/teams/home/members/{user}", None),
        ("POST", "/api/devices", {"team": "home", "name": "mine"}),
        ("POST", "/api/pairing-tokens", {"team": "home"}),
        ("POST", "/api/api-tokens", {"team": "home", "name": "mine"}),
        ("POST", "/api/device-approvals", {"user_code": "BCDF-GHJK", "decision": "approve", "team": "home"}),
        ("POST", "/api/invitations", {"email": "z@example.org", "teams": [{"team": "home", "role": "ADMIN"}]}),
        ("POST", "/api/invitations", {"email": "z@example.org", "teams": _BOTH}),
    ]


_BOTH = [{"team": "away", "role": "ADMIN"}, {"team": "home", "role": "VIEWER"}]


async def test_a2_what_another_team_has_does_not_exist(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    ids = await furnish(home, ann, HOME, 1)
    tried = requests(ids, ann.id)
    for route in home.routes:  # none is left out
        if route.action not in (None, *INSTALLATION_ACTIONS) and "{" in route.path:
            pattern = re.sub(r"\{\w+\}", "[^/]+", route.path)
            assert any(method == route.method and re.fullmatch(pattern, path) for method, path, _ in tried), route.path

    before, sessions = await everything(home.database), dict(home.sessions.sessions)
    for method, path, body in tried:
        for query in ("", "?team=away", "?team=home"):
            answer = await home.call(method, path + query, zoe, json=body)
            if answer.status_code == 422 and query:  # the endpoint takes no ?team=
                assert "unknown field" in answer.json()["detail"]
                continue
            assert answer.status_code == 404, (method, path + query, answer.text)
            # Nor does the answer differ from that for something that has never been.
            never = await home.call(method, _never(path, ids) + query, zoe, json=body)
            assert answer.json()["code"] == never.json()["code"]
    assert await everything(home.database) == before
    assert home.sessions.sessions == sessions
    assert home.relay.revoked == []


def _never(path: str, ids: dict[str, str]) -> str:
    for name in ids.values():
        path = path.replace(name, f"{name[:4]}{'0' * (len(name) - 4)}" if "_" in name else "nothing")
    return path.replace("teams/home", "teams/never")


async def test_a2_a_session_token_of_another_device_is_not_there(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    first, second = await furnish(home, ann, HOME, 1), await furnish(home, zoe, AWAY, 2)
    path = f"/api/devices/{second['device']}/session-tokens/{first['session token']}"
    answer = await home.call("DELETE", path, zoe)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_credential")
    assert home.relay.revoked == []


OF_NO_TEAM = {
    "/api/users",
    "/api/device-approvals",
    "/api/auth/sessions",
    "/api/token",
    "/api/offline-token",
}


async def test_a2_no_list_shows_another_team(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    first, second = await furnish(home, ann, HOME, 1), await furnish(home, zoe, AWAY, 2)
    lists = [
        route.path
        for route in home.routes
        if (route.method, route.media_type) == ("GET", "application/json")
        and route.path.startswith("/api/")
        and "{" not in route.path
        and route.path not in OF_NO_TEAM
    ]
    shown = ""
    for path in lists:
        answer = await home.call("GET", path, zoe)
        assert answer.status_code == 200, (path, answer.text)
        for kind, name in first.items():
            assert name not in answer.text, (path, kind)
        assert '"home"' not in answer.text, path
        shown += answer.text
    hidden = {"invitation's secret", "delivery"}
    assert {kind for kind, name in second.items() if name in shown} == second.keys() - hidden


async def test_a2_somebody_of_two_teams_sees_both_and_no_third(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    third = await home.team("third")
    await home.team(AWAY)
    admins = {
        HOME: ann,
        AWAY: await home.person("zoe", away=Role.ADMIN),
        third: await home.person("t", third=Role.ADMIN),
    }
    ids = {team: await furnish(home, who, team, n) for n, (team, who) in enumerate(admins.items())}
    both = await home.person("both", home=Role.MANAGER, away=Role.MANAGER)
    for path, kind in (
        ("/api/sessions", "session"),
        ("/api/devices", "device"),
        ("/api/pairing-tokens", "pairing token"),
    ):
        unnamed = await home.call("GET", path, both)
        assert (unnamed.status_code, unnamed.json()["code"]) == (422, "validation_failed"), path
        for team in (HOME, AWAY):
            items = (await home.call("GET", f"{path}?team={team}", both)).json()["items"]
            assert [item["id"] for item in items] == [ids[team][kind]], path
        assert (await home.call("GET", f"{path}?team=third", both)).status_code == 404
    log = (await home.call("GET", "/api/audit", both)).json()["items"]
    assert {entry["team"] for entry in log} == {"home", "away"}
    assert (await home.call("GET", "/api/audit?team=third", both)).status_code == 404


async def test_a2_events_of_ones_own_teams_only(home: Home) -> None:
    third = await home.team("third")
    await home.team(AWAY)
    both = await home.person("both", home=Role.VIEWER, away=Role.VIEWER)
    headers = {"Authorization": f"Bearer {both.token.reveal()}"}
    async with home.http.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.status_code == 200
        for number, team in enumerate((third, HOME, third, AWAY)):
            session = summary(number, team=team)
            home.hub.session_changed(
                SessionEvent(id=f"r-{number}", type=EventKind.ONLINE, time=1.0, team=team, session=session)
            )
        lines = answer.aiter_lines()
        seen: list[str] = []
        while len(seen) < 2:
            line = await anext(lines)
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: "))["team"])
    assert seen == [HOME, AWAY]
