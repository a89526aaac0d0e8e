"""Every management action is written down in its own transaction, or it does not happen (A3), on each database.

An audit log that fails stands in for a full disk in the worst moment: after it, the database holds what it held before.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import AuditEntry
from api_server.auth.interfaces import Action
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.schema import METADATA
from api_server.teams.roles import Role
from common.crypto.device_keys import DeviceKey, Purpose
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.audit.stage import Stage
from tests.api_server.devices.pairing import exchange
from tests.api_server.fakes import summary
from tests.api_server.people import Home, Person, running_domains
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

SOURCES = Path(__file__).parents[3] / "api_server"
KEY = DeviceKey.generate()


class FaultyLog:
    """An audit log that can be told to fail."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._fails = False

    async def record(self, tx: AsyncConnection, entry: AuditEntry) -> None:
        await self._log.record(tx, entry)
        if self._fails:
            raise RuntimeError("the audit log failed")

    @contextmanager
    def failing(self) -> Iterator[None]:
        self._fails = True
        try:
            yield
        finally:
            self._fails = False


class Scene:
    """A team with one of everything."""

    def __init__(self, home: Home, log: FaultyLog) -> None:
        self.home = home
        self.log = log
        self.secrets: list[str] = []

    async def prepare(self) -> Scene:
        self.ann = await self.home.person("ann", home=Role.ADMIN)
        self.bob = await self.home.person("bob", home=Role.VIEWER)
        self.new = await self.home.person("new", email="new@example.org")
        self.device = await self.made("/api/devices", name="lathe")
        self.token = await self.made("/api/devices/lathe/session-tokens")
        self.pairing = await self.made("/api/pairing-tokens", uses=1)
        self.spent = await self.made("/api/pairing-tokens")
        assert (await exchange(self.home, self.spent["token"], DeviceKey.generate(), "press")).status_code == 201
        self.paired = await self.made("/api/pairing-tokens")
        assert (await exchange(self.home, self.paired["token"], KEY, "mill")).status_code == 201
        invited = {"email": "new@example.org", "teams": [{"team": "home", "role": "DEVELOPER"}]}
        self.invitation = await self.made("/api/invitations", **invited)
        backend = {"kind": "url", "url": "https://api.example.org"}
        self.program = await self.made("/api/api-tokens", name="ci", scopes=["devices:read"])
        kept = {"name": "key", "destination": backend["url"], "value": "canary-of-an-upstream"}
        self.upstream = await self.made("/api/upstream-secrets", **kept)
        self.route = await self.made("/api/routes", name="prices", path="/prices", target=backend)
        self.secrets += ["canary-of-an-upstream", "canary-of-a-realm"]
        await self.made("/api/realm", id="weather", config={"kind": "fixed", "token": "$key_1"})
        await self.made("/api/secret", realm="weather", key="app", key_1="canary-of-a-realm")
        hook = {"name": "ops", "url": "https://hooks.example.org/in", "events": ["*"]}
        self.webhook = await self.made("/api/webhooks", **hook)
        await self.made("/api/teams", id="spare")
        self.home.sessions.sessions[_SESSION.id] = _SESSION
        return self

    async def made(self, path: str, /, **body: Any) -> Any:
        answer = await self.home.call(
            "POST", path, self.ann, json=body, params={"team": "home"} if "session" in path else {}
        )
        assert answer.status_code == 201, answer.text
        self.secrets += shown_once(answer)
        return answer.json()

    async def call(self, method: str, path: str, body: Any = None, who: Person | None = None) -> httpx.Response:
        return await self.home.call(method, path, who or self.ann, json=body)

    async def waiting(self) -> str:
        """The user code of a device that waits."""
        key = DeviceKey.generate()
        proof = key.prove(Purpose.AUTHORIZE, "saw", self.home.clock.wall())
        asked = {"name": "saw", "public_key": key.public, "proof": proof}
        answer = await self.home.call("POST", "/api/device-authorization", None, json=asked)
        self.secrets += [answer.json()["device_code"], answer.json()["user_code"]]
        return str(answer.json()["user_code"])

    async def everything(self) -> str:
        """All that is in the database."""
        async with self.home.database.administer() as connection:
            rows = [str((await connection.execute(each.select())).all()) for each in METADATA.sorted_tables]
            await connection.rollback()
        return "\n".join(rows)


_SESSION = summary(1)


def shown_once(answer: httpx.Response) -> list[str]:
    """The secrets in an answer."""
    shown = answer.json() if answer.content else {}
    found = (shown.get(name) for name in ("token", "session_token", "secret"))
    return [each for each in found if isinstance(each, str)]


Act = Callable[[Scene], Awaitable[httpx.Response]]


async def _decide(scene: Scene, decision: str) -> httpx.Response:
    asked = {"user_code": scene.secrets[-1], "decision": decision, "team": "home"}
    return await scene.call("POST", "/api/device-approvals", asked)


ACTIONS: dict[str, Act] = {
    "team.created": lambda s: s.call("POST", "/api/teams", {"id": "other"}),
    "team.edited": lambda s: s.call("PATCH", "/api/teams/home", {"name": "Ours"}),
    "team.deleted": lambda s: s.call("DELETE", "/api/teams/spare"),
    "member.added": lambda s: s.call("PUT", f"/api/teams/home/members/{s.new.id}", {"role": "VIEWER"}),
    "member.changed": lambda s: s.call("PUT", f"/api/teams/home/members/{s.bob.id}", {"role": "MANAGER"}),
    "member.removed": lambda s: s.call("DELETE", f"/api/teams/home/members/{s.bob.id}"),
    "user.disabled": lambda s: s.call("PATCH", f"/api/users/{s.bob.id}", {"disabled": True}),
    "invitation.created": lambda s: s.call(
        "POST", "/api/invitations", {"email": "x@example.org", "teams": [{"team": "home", "role": "VIEWER"}]}
    ),
    "invitation.revoked": lambda s: s.call("DELETE", f"/api/invitations/{s.invitation['id']}"),
    "invitation.accepted": lambda s: s.call(
        "POST", f"/api/invitations/{s.invitation['id']}/accept", {"token": s.invitation["token"]}, s.new
    ),
    "device.registered": lambda s: s.call("POST", "/api/devices", {"team": "home", "name": "drill"}),
    "device.renamed": lambda s: s.call("PATCH", "/api/devices/lathe?team=home", {"name": "other"}),
    "device.labelled": lambda s: s.call("PATCH", "/api/devices/lathe?team=home", {"labels": ["hall-2"]}),
    "device.disabled": lambda s: s.call("PATCH", "/api/devices/lathe?team=home", {"disabled": True}),
    "device.revoked": lambda s: s.call("POST", "/api/devices/lathe/revoke?team=home"),
    "device.deleted": lambda s: s.call("DELETE", "/api/devices/lathe?team=home"),
    "session_token.issued": lambda s: s.call("POST", "/api/devices/lathe/session-tokens?team=home", {}),
    "session_token.revoked": lambda s: s.call("DELETE", f"/api/devices/lathe/session-tokens/{s.token['id']}?team=home"),
    "pairing_token.created": lambda s: s.call("POST", "/api/pairing-tokens", {"team": "home"}),
    "pairing_token.revoked": lambda s: s.call("DELETE", f"/api/pairing-tokens/{s.pairing['id']}?team=home"),
    "pairing_token.reused": lambda s: exchange(s.home, s.spent["token"], DeviceKey.generate(), "thief"),
    "device.paired": lambda s: exchange(s.home, s.pairing["token"], DeviceKey.generate(), "saw"),
    "device.paired_again": lambda s: exchange(s.home, s.paired["token"], KEY, "mill"),
    "device_request.approved": lambda s: _decide(s, "approve"),
    "device_request.denied": lambda s: _decide(s, "deny"),
    "device_session.closed": lambda s: s.call("DELETE", f"/api/sessions/{_SESSION.id}?team=home"),
    "token.created": lambda s: s.call("POST", "/api/api-tokens", {"team": "home", "name": "x", "scopes": []}),
    "token.edited": lambda s: s.call("PATCH", f"/api/api-tokens/{s.program['id']}?team=home", {"name": "x"}),
    "token.rotated": lambda s: s.call("POST", f"/api/api-tokens/{s.program['id']}/rotate?team=home", {}),
    "token.revoked": lambda s: s.call("DELETE", f"/api/api-tokens/{s.program['id']}?team=home"),
    "route.created": lambda s: s.call(
        "POST", "/api/routes", {"team": "home", "name": "x", "path": "/x", "target": s.route["target"]}
    ),
    "route.changed": lambda s: s.call("PATCH", f"/api/routes/{s.route['id']}?team=home", {"tags": ["x"]}),
    "route.deleted": lambda s: s.call("DELETE", f"/api/routes/{s.route['id']}?team=home"),
    "upstream_secret.created": lambda s: s.call(
        "POST", "/api/upstream-secrets", {"team": "home", "name": "x", "destination": "https://x.org", "value": "v"}
    ),
    "upstream_secret.replaced": lambda s: s.call(
        "PATCH", f"/api/upstream-secrets/{s.upstream['id']}?team=home", {"value": "v"}
    ),
    "upstream_secret.deleted": lambda s: s.call("DELETE", f"/api/upstream-secrets/{s.upstream['id']}?team=home"),
    "realm.created": lambda s: s.call(
        "POST", "/api/realm", {"team": "home", "id": "x", "config": {"kind": "fixed", "token": "$key_1"}}
    ),
    "realm.changed": lambda s: s.call("PATCH", "/api/realm/weather?team=home", {"comment": "x"}),
    "realm.deleted": lambda s: s.call("DELETE", "/api/realm/weather?team=home"),
    "realm_secret.created": lambda s: s.call(
        "POST", "/api/secret", {"team": "home", "realm": "weather", "key": "x", "key_1": "v"}
    ),
    "realm_secret.changed": lambda s: s.call("PATCH", "/api/secret/weather/app?team=home", {"key_1": "v"}),
    "realm_secret.deleted": lambda s: s.call("DELETE", "/api/secret/weather/app?team=home"),
    "webhook.created": lambda s: s.call(
        "POST", "/api/webhooks", {"team": "home", "name": "x", "url": "https://x.org/", "events": ["*"]}
    ),
    "webhook.changed": lambda s: s.call("PATCH", f"/api/webhooks/{s.webhook['id']}?team=home", {"name": "x"}),
    "webhook.secret_rotated": lambda s: s.call("POST", f"/api/webhooks/{s.webhook['id']}/rotate-secret?team=home", {}),
    "webhook.tested": lambda s: s.call("POST", f"/api/webhooks/{s.webhook['id']}/test?team=home"),
    "webhook.deleted": lambda s: s.call("DELETE", f"/api/webhooks/{s.webhook['id']}?team=home"),
    "limits.set": lambda s: s.call("PUT", f"/api/limits/route/{s.route['id']}?team=home", {"streams": 3}),
    "limits.defaults_set": lambda s: s.call("PUT", "/api/limits/defaults", {"team": {"streams": 3}}),
}
"""What is done, by the action that is written down."""

ELSEWHERE = {
    "device.enabled": "as device.disabled",
    "user.enabled": "as user.disabled",
    "installation.claimed": "tests of sign-in",
    "offline_token.revoked": "tests of provider tokens",
    "offline_token.stored": "tests of provider tokens",
    "provider_token.connected": "tests of provider tokens",
    "provider_token.disconnected": "tests of provider tokens",
    "provider_token.needs_reconnect": "tests of provider tokens",
    "realm_token.flushed": "tests of the broker",
    "realm_token.refreshed": "tests of the broker",
    "route.replayed": "tests of the inspector",
    "session.started": "tests of sign-in",
    "webhook.disabled": "tests of webhooks",
    "webhook.retried": "tests of webhooks",
    "session.ended": "tests of sign-in",
}


EVENTS = {"session.online", "session.offline", "session.updated", "webhook.test"}
"""What happens by itself, and is shown at /api/events alone."""

ON_EACH = ("device.deleted", "device.paired", "invitation.accepted", "team.created")
"""Of these several tables are written; the rest is tried on SQLite alone."""

CASES = [(kind, action) for kind in Kind for action in ACTIONS if kind is Kind.SQLITE or action in ON_EACH]


@asynccontextmanager
async def scene_on(url: str, signer: SessionTokenSigner, folder: Path) -> AsyncIterator[Scene]:
    async with Database.connect(url) as database:
        log = FaultyLog(Stage(database, folder).log)
        async with running_domains(database, signer, audit=log) as home:
            yield await Scene(home, log).prepare()


@pytest.mark.parametrize(("kind", "action"), CASES, ids=lambda case: str(case).removeprefix("Kind.").lower())
async def test_a3_what_cannot_be_written_down_does_not_happen(
    kind: Kind, action: str, fresh_database: FreshDatabase, signer: SessionTokenSigner, tmp_path: Path
) -> None:
    with fresh_database(kind) as url:
        async with scene_on(url, signer, tmp_path) as scene:
            await _try(scene, action)


async def _try(scene: Scene, action: str) -> None:
    if action.startswith("device_request."):
        await scene.waiting()
    before = await scene.everything()
    with scene.log.failing():
        failed = await ACTIONS[action](scene)
    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert "audit log failed" not in failed.text
    assert await scene.everything() == before
    assert scene.home.relay.revoked == []
    assert _SESSION.id in scene.home.sessions.sessions

    done = await ACTIONS[action](scene)
    refused = action == "pairing_token.reused"
    assert (done.json()["code"] == "pairing_token_used") if refused else done.is_success, done.text
    scene.secrets += shown_once(done)
    entries = (await scene.call("GET", "/api/audit?limit=1000")).json()["items"]
    (written, *_) = [entry for entry in entries if entry["request_id"] == done.headers["X-Request-Id"]]
    assert (written["action"], written["outcome"]) == (action, "refused" if refused else "done")
    assert written["address"] == "127.0.0.1"
    kept = await scene.everything()
    for secret in scene.secrets:
        assert secret not in kept
        assert secret.replace("-", "") not in kept


def test_a3_every_action_of_the_code_is_fired() -> None:
    """Also those that will be added: an action is written as `"thing.done"` in the domains."""
    things = "|".join(
        (
            "team",
            "member",
            "user",
            "invitation",
            "device",
            "session_token",
            "pairing_token",
            "device_request",
            "device_session",
            "installation",
            "session",
            "limits",
            "offline_token",
            "provider_token",
            "realm",
            "realm_secret",
            "realm_token",
            "route",
            "upstream_secret",
            "webhook",
        )
    )
    found: set[str] = set()
    for source in SOURCES.rglob("*.py"):
        found |= set(re.findall(rf'"((?:{things})\.[a-z]+(?:_[a-z]+)*)"', source.read_text()))
    # Those of API tokens are put together, and so found in no source.
    tried = {action for action in ACTIONS.keys() | ELSEWHERE.keys() if not action.startswith("token.")}
    assert found - set(Action) - EVENTS == tried
