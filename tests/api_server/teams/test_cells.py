"""Every cell of the table of roles is fired at the API (A1): each route with an action, by each role, by nobody, and by
the ADMIN of another team (A2).

The requests name things that do not exist, or say too little, so that nothing comes of those that are allowed: it is
enough that they are not 401 or 403. The cells that a handler checks, because it depends on the thing, have requests
that do something below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Identity
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.gateway.access import Gatekeeper
from api_server.gateway.errors import NoSuchDeviceError
from api_server.gateway.routes import DeviceRouter, NoRoutes
from api_server.http.public import PUBLIC
from api_server.http.routes import Route
from api_server.teams.roles import Role, actions_of
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.audit.stage import Stage
from tests.api_server.fakes import AWAY, HOME, summary
from tests.api_server.gateway.streams import no_streams
from tests.api_server.people import Home, Person, running_domains
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

ROLES = list(Role)

BY_HANDLERS = {
    Action.API_TOKENS_CHANGE,
    Action.AUDIT_READ_INSTALLATION,
    Action.DEVICES_CHANGE,
    Action.GATEWAY_CALL,
    Action.MEMBERS_MANAGE_LEADERS,
    Action.PAIRING_TOKENS_CHANGE,
    Action.REALMS_CHANGE,
    Action.REALM_SECRETS_CHANGE,
    Action.REALM_TOKENS_FLUSH,
    Action.SESSIONS_CLOSE,
    Action.UPSTREAM_SECRETS_CHANGE,
    Action.WEBHOOKS_CHANGE,
}
"""Actions that no route asks for by itself: whether they matter depends on the thing. Each has a test below, or with
what it is about."""

MORE: dict[str, dict[str, Any]] = {
    "/api/routes": {"path": "-", "target": {"kind": "device", "device": "-", "service": "-"}},
    "/api/upstream-secrets": {"destination": "-", "value": "-"},
    "/api/realm": {"name": None, "id": "none", "config": {}},
    "/api/secret": {"name": None, "realm": "none", "key": "none"},
    "/api/webhooks": {"url": "-", "events": ["*"]},
}
"""What a request to a path must say beside a team and a name, to be understood at all; None for what it must not."""


@pytest.fixture
async def home(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, running_domains(database, signer) as running:
            yield running


async def fire(home: Home, route: Route, who: Person | None, *, team: TeamId = HOME) -> tuple[int, str | None]:
    """A request to `route` about `team`; status and code of the answer."""
    path = route.path.replace("{team}", team).replace("{user}", "nobody" if who is None else who.id)
    path = (
        path.replace("{id}", "none")
        .replace("{token_id}", "none")
        .replace("{provider}", "none")
        .replace("{kind}", "token")
        .replace("{delivery}", "none")
    )
    path = path.replace("{realm}", "none").replace("{key}", "none")
    wanted = {"team": team, "user_code": "BCDF-GHJK", "realm": "none", "key": "none"}
    query = {name: value for name, value in wanted.items() if name in _fields(route.parameters.get("query"))}
    options: dict[str, Any] = {"params": query}
    if "body" in route.parameters:
        said = {"team": team, "name": "-", **MORE.get(route.path, {})}
        named = {name: value for name, value in said.items() if value is not None}
        options["json"] = named if "team" in _fields(route.parameters["body"]) else {}
    if route.media_type == "text/event-stream":  # an endless answer is begun, and left
        headers = {} if who is None else {"Authorization": f"Bearer {who.token.reveal()}"}
        async with home.http.stream(route.method, path, headers=headers, **options) as begun:
            if begun.status_code == 200:
                return 200, None
            await begun.aread()
            return begun.status_code, begun.json()["code"]
    answer = await home.call(route.method, path, who, **options)
    problem = answer.status_code >= 400
    return answer.status_code, answer.json()["code"] if problem else None


def _fields(struct: Any) -> tuple[str, ...]:
    return () if struct is None else tuple(struct.__struct_fields__)


def guarded(home: Home) -> list[Route]:
    """The routes that ask for an action."""
    return [route for route in home.routes if route.action is not None]


@pytest.mark.parametrize("role", ROLES)
async def test_a1_each_role_may_what_the_table_says_and_nothing_else(home: Home, role: Role) -> None:
    await home.person("first", home=Role.ADMIN)  # so that everybody else could leave
    wrong = []
    for number, route in enumerate(guarded(home)):
        who = await home.person(f"p{number}", home=role)
        action = route.action
        assert action is not None
        allowed = action in actions_of(role) or (action in INSTALLATION_ACTIONS and role is Role.ADMIN)
        status, code = await fire(home, route, who)
        if allowed is (status in (401, 403)) or (not allowed and (status, code) != (403, "forbidden")):
            wrong.append((route.method, route.path, action, status, code))
    assert not wrong


async def test_a1_nobody_may_anything_outside_the_one_list(home: Home) -> None:
    for route in home.routes:
        if (route.method, route.path) not in PUBLIC:
            assert await fire(home, route, None) == (401, "unauthenticated"), route.path


async def test_a2_the_admin_of_another_team_finds_nothing(home: Home) -> None:
    await home.team(AWAY)
    zoe = await home.person("zoe", away=Role.ADMIN)
    not_of_a_team = set()
    for route in guarded(home):
        status, code = await fire(home, route, zoe)
        if route.action in INSTALLATION_ACTIONS:
            assert (status, code) == (403, "forbidden"), route.path
        elif route.path in ("/api/teams", "/api/users", "/api/invitations", "/api/device-approvals") or (
            route.path.startswith("/api/invitations/")
        ):
            not_of_a_team.add((route.method, route.path, status))
        else:
            assert (status, code) == (404, "no_such_team"), (route.method, route.path)
    assert not_of_a_team == {
        ("DELETE", "/api/invitations/{id}", 404),
        ("GET", "/api/device-approvals", 404),  # a user code names a device that is of no team yet
        ("GET", "/api/invitations", 404),
        ("GET", "/api/invitations/{id}", 404),
        ("GET", "/api/users", 200),  # of the installation: whom one may add
        ("POST", "/api/device-approvals", 422),
        ("POST", "/api/invitations", 422),
        ("POST", "/api/teams", 422),
    }


async def test_a1_every_action_is_asked_for_somewhere(home: Home) -> None:
    assert {route.action for route in guarded(home)} | BY_HANDLERS == set(Action)


# The cells that depend on the thing


def may(role: Role, any_of_them: Action, own: Action, *, is_own: bool) -> bool:
    """What the table says about one thing."""
    return any_of_them in actions_of(role) or (is_own and own in actions_of(role))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "of somebody else"])
async def test_a1_devices_and_their_sessions(home: Home, role: Role, is_own: bool) -> None:
    ann, who = await home.person("ann", home=Role.ADMIN), await home.person("who", home=Role.DEVELOPER)
    maker = who if is_own else ann
    made = (await home.call("POST", "/api/devices", maker, json={"name": "lathe"})).json()
    token = (await home.call("POST", "/api/devices/lathe/session-tokens", ann, json={})).json()
    live = summary(1)
    home.sessions.sessions[live.id] = msgspec.structs.replace(live, device=made["id"])
    assert (
        await home.call("PUT", f"/api/teams/home/members/{who.id}", ann, json={"role": role})
    ).status_code == 200  # who made it before, and may now do less or more
    allowed = may(role, Action.DEVICES_CHANGE, Action.DEVICES_CHANGE_OWN, is_own=is_own)
    for method, path, body in (
        ("PATCH", "/api/devices/lathe", {"disabled": False}),
        ("POST", "/api/devices/lathe/session-tokens", {}),
        ("DELETE", f"/api/devices/lathe/session-tokens/{token['id']}", None),
        ("POST", "/api/devices/lathe/revoke", None),
    ):
        answer = await home.call(method, path, who, json=body)
        assert (answer.status_code < 300) is allowed, (method, path, answer.text)
        assert allowed or answer.json()["code"] == "forbidden"
    closed = await home.call("DELETE", f"/api/sessions/{live.id}", who)
    may_close = may(role, Action.SESSIONS_CLOSE, Action.SESSIONS_CLOSE_OWN, is_own=is_own)
    assert closed.status_code == (204 if may_close else 403)
    assert (await home.call("DELETE", "/api/devices/lathe", who)).status_code == (204 if allowed else 403)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "of somebody else"])
async def test_a1_pairing_tokens(home: Home, role: Role, is_own: bool) -> None:
    ann, who = await home.person("ann", home=Role.ADMIN), await home.person("who", home=Role.DEVELOPER)
    made = (await home.call("POST", "/api/pairing-tokens", who if is_own else ann, json={})).json()
    await home.call("PUT", f"/api/teams/home/members/{who.id}", ann, json={"role": role})
    allowed = may(role, Action.PAIRING_TOKENS_CHANGE, Action.PAIRING_TOKENS_CHANGE_OWN, is_own=is_own)
    answer = await home.call("DELETE", f"/api/pairing-tokens/{made['id']}", who)
    assert answer.status_code == (204 if allowed else 403)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "of somebody else"])
async def test_a1_api_tokens(home: Home, role: Role, is_own: bool) -> None:
    ann, who = await home.person("ann", home=Role.ADMIN), await home.person("who", home=Role.DEVELOPER)
    body = {"name": "ci", "scopes": ["devices:read"]}
    made = (await home.call("POST", "/api/api-tokens", who if is_own else ann, json=body)).json()
    await home.call("PUT", f"/api/teams/home/members/{who.id}", ann, json={"role": role})
    allowed = may(role, Action.API_TOKENS_CHANGE, Action.API_TOKENS_CHANGE_OWN, is_own=is_own)
    one = f"/api/api-tokens/{made['id']}"
    for method, path, json in (
        ("PATCH", one, {"name": "cd"}),
        ("POST", f"{one}/rotate", {}),
        ("DELETE", one, None),
    ):
        answer = await home.call(method, path, who, json=json)
        assert (answer.status_code < 300) is allowed, (method, answer.text)
        assert allowed or answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "of somebody else"])
async def test_a1_webhooks(home: Home, role: Role, is_own: bool) -> None:
    ann, who = await home.person("ann", home=Role.ADMIN), await home.person("who", home=Role.DEVELOPER)
    body = {"name": "ops", "url": "https://hooks.test/canary", "events": ["*"]}
    made = (await home.call("POST", "/api/webhooks", who if is_own else ann, json=body)).json()
    await home.call("PUT", f"/api/teams/home/members/{who.id}", ann, json={"role": role})
    allowed = may(role, Action.WEBHOOKS_CHANGE, Action.WEBHOOKS_CHANGE_OWN, is_own=is_own)
    one = f"/api/webhooks/{made['id']}"
    shown = (await home.call("GET", one, who)).json()
    assert (shown["url"] == body["url"]) is allowed  # its path can be a secret
    assert allowed or shown["url"] == "https://hooks.test/..."
    sent = (await home.call("POST", f"{one}/test", ann)).json()
    for method, path, given in (
        ("PATCH", one, {"name": "dev"}),
        ("POST", f"{one}/rotate-secret", {}),
        ("POST", f"{one}/test", None),
        ("POST", f"{one}/deliveries/{sent['id']}/retry", None),
        ("DELETE", one, None),
    ):
        answer = await home.call(method, path, who, json=given)
        assert (answer.status_code < 300) is allowed, (method, path, answer.text)
        assert allowed or answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("before", [None, *ROLES])
async def test_a1_members(home: Home, role: Role, before: Role | None) -> None:
    """From each role, or none, to each other, and out."""
    ann, who = await home.person("ann", home=Role.ADMIN), await home.person("who", home=role)
    target = await home.person("target")
    path = f"/api/teams/home/members/{target.id}"

    async def put_back() -> None:
        answer = await home.call("DELETE", path, ann)
        assert answer.status_code in (204, 404)
        if before is not None:
            assert (await home.call("PUT", path, ann, json={"role": before})).status_code == 200

    for after in (*ROLES, None):
        if after is None and before is None:
            continue  # nobody to remove
        await put_back()
        leaders = {Role.ADMIN, Role.MANAGER} & {before, after}
        needed = Action.MEMBERS_MANAGE_LEADERS if leaders else Action.MEMBERS_MANAGE
        method, body = ("DELETE", None) if after is None else ("PUT", {"role": after})
        answer = await home.call(method, path, who, json=body)
        assert (answer.status_code < 300) is (needed in actions_of(role)), (before, after, answer.text)
        assert answer.status_code in (200, 204, 403)


@pytest.mark.parametrize("role", ROLES)
async def test_a1_the_log_of_what_concerns_no_team(
    fresh_database: FreshDatabase, signer: SessionTokenSigner, tmp_path: Path, role: Role
) -> None:
    """Read by ADMINs of the first team alone; a MANAGER sees the team's entries without it."""
    with fresh_database(Kind.SQLITE) as url:
        async with (
            Database.connect(url) as database,
            running_domains(database, signer, audit=Stage(database, tmp_path).log) as home,
        ):
            ann, who = await home.person("ann", home=Role.ADMIN), await home.person("who", home=role)
            bob = await home.person("bob")
            assert (await home.call("PATCH", f"/api/users/{bob.id}", ann, json={"disabled": True})).is_success
            assert (await home.call("PATCH", "/api/teams/home", ann, json={"name": "Home"})).is_success
            answer = await home.call("GET", "/api/audit", who)
            if Action.AUDIT_READ not in actions_of(role):
                assert answer.status_code == 403
                return
            shown = [entry["action"] for entry in answer.json()["items"]]
            assert shown == (["team.edited", "user.disabled"] if role is Role.ADMIN else ["team.edited"])


@pytest.mark.parametrize("role", ROLES)
def test_a1_services(role: Role) -> None:
    """The gateway asks the same table."""
    router = DeviceRouter(domain=None, streams=no_streams, others=NoRoutes())
    route = router.route(b"gateway.test", b"/d/home/lathe/web/")
    assert route is not None
    keeper = Gatekeeper(authenticator=None)  # type: ignore[arg-type]  # who asks is known
    who = Identity(kind="user", id="usr_0", name="who", teams={HOME: actions_of(role)})
    if Action.GATEWAY_CALL in actions_of(role):
        assert keeper.admit(who, route) is route
    else:
        with pytest.raises(ForbiddenError):
            keeper.admit(who, route)
    with pytest.raises(NoSuchDeviceError):
        keeper.admit(Identity(kind="user", id="usr_0", name="who", teams={AWAY: actions_of(role)}), route)
