"""Text that a database may not be able to keep or compare is never a fault, whichever database it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api_server.db.database import Database
from api_server.http.routes import Route
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import Home, running_domains

pytestmark = pytest.mark.anyio

TEXTS = {
    "a NUL": "a\0b",
    "only a NUL": "\0",
    "long": "x" * 3000,
    "astral": "\U0001f9f0" * 300,
    "a noncharacter": "\uffff\U0010ffff",
    "trailing blank": "lathe ",
    "a wildcard": "%_\\'\"",
    "right to left": "\u202e\u0627",
}


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


def bodies(route: Route, text: str) -> list[dict[str, Any] | None]:
    """Bodies with `text` in each of the fields in turn, as in whoever means harm."""
    fields = [*_fields(route, "body"), *_fields(route, "form")]
    usual: dict[str, Any] = {
        "email": "bob@example.org",
        "teams": [{"team": "home", "role": "VIEWER"}],
        "role": "VIEWER",
        "disabled": False,
        "decision": "approve",
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    }
    known = {name: usual.get(name, "x") for name in fields if name not in ("services", "expires_in", "uses", "team")}
    return [known | {name: text} for name in fields] or [None]


def _fields(route: Route, kind: str) -> tuple[str, ...]:
    """Names of what the endpoint takes in its path, query or body."""
    struct: Any = route.parameters.get(kind)
    return () if struct is None else struct.__struct_fields__


def _path(route: Route, text: str) -> str:
    """The path with `text` for every variable part but the team, which would be all that is looked at."""
    escaped = "".join(f"%{byte:02x}" for byte in text.encode()[:1500])
    path = route.path
    for name in _fields(route, "path"):
        path = path.replace(f"{{{name}}}", "home" if name == "team" else escaped)
    return path


@pytest.mark.parametrize("kind", list(TEXTS))
async def test_text_from_outside_is_never_a_fault(home: Home, kind: str) -> None:
    """In each path, each parameter and each field of each endpoint."""
    ann = await home.person("ann", home=Role.ADMIN)
    await home.call("POST", "/api/devices", ann, json={"name": "lathe"})
    text, tried = TEXTS[kind], 0
    for route in home.routes:
        if route.media_type == "text/event-stream":
            continue
        for params in ({}, *({name: text} for name in _fields(route, "query"))):
            for body in bodies(route, text):
                sent = {} if body is None else {"data" if "form" in route.parameters else "json": body}
                answer = await home.call(route.method, _path(route, text), ann, params=params, **sent)
                assert answer.status_code < 500 or answer.json()["code"] == "sign_in_not_configured", (
                    f"{route.method} {route.path} {params} {json.dumps(body)}: {answer.text}"
                )
                tried += 1
    assert tried > 60


async def test_a_nul_is_named_as_what_is_wrong(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    for method, path, options in (
        ("GET", "/api/devices/%00", {}),
        ("GET", "/api/devices?cursor=%00", {}),
        ("PATCH", "/api/teams/home", {"json": {"description": "a\0b"}}),
        ("POST", "/api/invitations", {"json": {"email": "b@x.org", "teams": [{"team": "\0", "role": "VIEWER"}]}}),
    ):
        answer = await home.call(method, path, ann, **options)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), path
        assert "NUL" in answer.json()["detail"]
    kept = await home.call("PATCH", "/api/teams/home", ann, json={"description": "the six characters \\u0000"})
    assert kept.json()["description"] == "the six characters \\u0000"


async def test_a_name_with_a_blank_behind_it_is_another_name(home: Home) -> None:
    ann = await home.person("ann", home=Role.ADMIN)
    await home.call("POST", "/api/devices", ann, json={"name": "lathe"})
    assert (await home.call("GET", "/api/devices/lathe%20", ann)).json()["code"] == "no_such_device"
    assert (await home.call("GET", "/api/devices/LATHE", ann)).json()["code"] == "no_such_device"
