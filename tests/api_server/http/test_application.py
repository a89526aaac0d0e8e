"""What holds for every route: an identity is needed, errors have one shape, browsers are protected."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping

import msgspec
import pytest
from aiohttp import web

from api_server.auth.interfaces import Action
from api_server.http.public import PUBLIC
from api_server.http.routes import Caller, Route
from common.crypto.api_tokens import new_api_token
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from common.sessions.errors import RelayUnavailableError
from tests.api_server.fakes import FakeStore, summary
from tests.api_server.rest import ADMIN, BOTH_TEAMS, LIMIT, NO_TEAM, VIEWER, running_api
from tests.api_server.wire import exchange, exchange_bytes

pytestmark = pytest.mark.anyio


def filled(path: str) -> str:
    """A path of the router with something for its variables."""
    return re.sub(r"\{\w+\}", "some", path)


async def test_the_router_is_walked_and_every_route_needs_an_identity(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        walked = set()
        for resource in api.application.router.resources():
            for route in resource:
                method = "GET" if route.method == "HEAD" else route.method
                walked.add((method, resource.canonical))
                answer = await api.call(route.method, filled(resource.canonical), token=None)
                if (method, resource.canonical) in PUBLIC:
                    # The forms of sign-in want proof of their own: a callback of nothing, for one, is 400.
                    assert answer.status_code in (200, 303, 400, 422, 503), (route.method, resource.canonical)
                    continue
                assert answer.status_code == 401, (route.method, resource.canonical)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
                if route.method != "HEAD":
                    assert answer.json()["code"] == "unauthenticated"
        assert {(route.method, route.path) for route in api.routes} == walked
        assert walked >= PUBLIC
        assert len(walked - PUBLIC) >= 8


async def test_the_script_of_a_page_makes_no_browser_ask_for_a_password(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        typed = await api.get("/api/sessions", token=None)
        assert [each.partition(" ")[0] for each in typed.headers.get_list("WWW-Authenticate")] == ["Bearer", "Basic"]
        scripted = await api.get("/api/sessions", token=None, headers={"X-Homeport-CSRF": "1"})
        assert scripted.headers.get_list("WWW-Authenticate") == ['Bearer realm="homeport"']


async def test_a_path_that_is_not_there_needs_an_identity_too(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        assert (await api.get("/api/nothing", token=None)).status_code == 401
        answer = await api.get("/api/nothing")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_path")


async def test_a_wrong_method_is_told_the_right_ones(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        answer = await api.call("PATCH", "/api/sessions/ses_" + "0" * 32)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "DELETE, GET, HEAD"


async def test_errors_are_problem_json_with_a_request_id(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        answer = await api.get("/api/nothing")
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        assert problem["type"] == "urn:homeport:error:no_such_path"
        assert problem.keys() == {"type", "title", "status", "code", "detail", "request_id"}


async def test_security_headers_are_on_every_answer(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        for path, token in (("/healthz", None), ("/api/auth/me", ADMIN), ("/api/sessions", None), ("/nothing", ADMIN)):
            headers = (await api.get(path, token=token)).headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["Cache-Control"] == "no-store", path
            assert headers["Content-Security-Policy"].startswith("default-src 'none'"), path
            assert headers["Server"] == "homeport", path
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path


# Credentials


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ADMIN.reveal()}"},
        {"authorization": f"BEARER  {ADMIN.reveal()}"},
        {"X-API-Key": ADMIN.reveal()},
        {"Authorization": "Basic " + base64.b64encode(f"me:{ADMIN.reveal()}".encode()).decode()},
        {"Authorization": f"Bearer {ADMIN.reveal()}", "X-API-Key": ADMIN.reveal()},
    ],
    ids=["bearer", "bearer-spaced", "x-api-key", "basic", "both-the-same"],
)
async def test_the_ways_to_show_a_token(signer: SessionTokenSigner, headers: Mapping[str, str]) -> None:
    async with running_api(signer) as api:
        answer = await api.get("/api/auth/me", token=None, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["id"] == ADMIN.reveal()[:9]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {ADMIN.reveal()[:-1]}"},
        {"Authorization": f"Bearer {new_api_token().reveal()}"},
        {"Authorization": f"Digest {ADMIN.reveal()}"},
        {"Authorization": "Basic not-base64"},
        {"Authorization": "Basic " + base64.b64encode(ADMIN.reveal().encode()).decode()},
        {"Authorization": "Basic " + base64.b64encode(f"{ADMIN.reveal()}:".encode()).decode()},
        {"X-API-Key": "x" * 5000},
        {"Cookie": f"token={ADMIN.reveal()}"},
    ],
)
async def test_anything_else_is_nobody(signer: SessionTokenSigner, headers: Mapping[str, str]) -> None:
    async with running_api(signer) as api:
        answer = await api.get("/api/auth/me", token=None, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_two_different_tokens_are_refused(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        answer = await api.get("/api/auth/me", headers={"X-API-Key": VIEWER.reveal()})
        assert (answer.status_code, answer.json()["code"]) == (400, "conflicting_credentials")


@pytest.mark.parametrize("query", ["token={}", "a=b&x={}", "{}", "x=%68%70_{rest}"])
@pytest.mark.parametrize("path", ["/api/auth/me", "/healthz"])
async def test_a_token_in_the_query_is_refused_though_it_is_valid(
    signer: SessionTokenSigner, query: str, path: str
) -> None:
    async with running_api(signer) as api:
        target = f"{path}?{query.format(ADMIN.reveal(), rest=ADMIN.reveal()[3:])}"
        for token in (None, ADMIN):
            answer = await api.get(target, token=token)
            assert (answer.status_code, answer.json()["code"]) == (400, "credential_in_query")
            assert ADMIN.reveal()[3:] not in answer.text


async def test_wrong_tokens_are_limited_and_the_right_one_still_works(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        for _ in range(3):
            assert (await api.get("/api/auth/me", token=new_api_token())).status_code == 401
        answer = await api.get("/api/auth/me", token=new_api_token())
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
        assert answer.headers["Retry-After"] == "10"
        assert (await api.get("/api/auth/me", token=Secret("hp_garbage"))).status_code == 401
        assert (await api.get("/api/auth/me")).status_code == 200
        api.clock.advance(10)
        assert (await api.get("/api/auth/me", token=new_api_token())).status_code == 401


# Teams


async def test_another_team_does_not_exist(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        for method, path in (
            ("GET", "/api/sessions?team=away"),
            ("GET", f"/api/sessions/{summary(1).id}?team=away"),
            ("DELETE", f"/api/sessions/{summary(1).id}?team=away"),
            ("POST", "/api/devices/front-door/session-tokens?team=away"),
            ("DELETE", f"/api/devices/front-door/session-tokens/crd_{'0' * 32}?team=away"),
            ("GET", "/api/events?team=away"),
            ("GET", "/api/sessions?team="),
            ("GET", "/api/sessions?team=A%20%22team%22"),
        ):
            answer = await api.call(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_team"), path
        assert api.store.calls == []
        assert api.relay.revoked == []


async def test_an_identity_of_several_teams_names_one(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        answer = await api.get("/api/sessions", token=BOTH_TEAMS)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert len((await api.get("/api/sessions?team=home", token=BOTH_TEAMS)).json()["items"]) == 1
        assert (await api.get("/api/sessions?team=away", token=BOTH_TEAMS)).json()["items"] == []


async def test_an_identity_without_a_team_sees_nothing(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        assert (await api.get("/api/sessions", token=NO_TEAM)).status_code == 422
        assert (await api.get("/api/sessions?team=home", token=NO_TEAM)).status_code == 404
        assert (await api.get("/api/events", token=NO_TEAM)).status_code == 403
        assert (await api.get("/metrics", token=NO_TEAM)).status_code == 403


async def test_what_an_identity_may_not_do_is_forbidden(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        assert (await api.get("/api/sessions", token=VIEWER)).status_code == 200
        for method, path in (
            ("DELETE", f"/api/sessions/{summary(1).id}"),
            ("POST", "/api/devices/front-door/session-tokens"),
            ("DELETE", f"/api/devices/front-door/session-tokens/crd_{'0' * 32}"),
            ("GET", "/api/events"),
            ("GET", "/metrics"),
        ):
            answer = await api.call(method, path, token=VIEWER)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert api.store.calls == ["list"]
        assert api.relay.revoked == []


async def test_every_action_that_routes_name_is_checked(signer: SessionTokenSigner) -> None:
    """An action that no identity holds lets nobody through: none of the routes forgets to ask."""
    async with running_api(signer) as api:
        asked = {route.action for route in api.routes if (route.method, route.path) not in PUBLIC}
        by_handlers = {
            Action.API_TOKENS_CHANGE,
            Action.AUDIT_READ_INSTALLATION,
            Action.DEVICES_CHANGE,
            Action.MEMBERS_MANAGE_LEADERS,
            Action.PAIRING_TOKENS_CHANGE,
            Action.REALMS_CHANGE,
            Action.REALM_SECRETS_CHANGE,
            Action.REALM_TOKENS_FLUSH,
            Action.SESSIONS_CLOSE,
            Action.UPSTREAM_SECRETS_CHANGE,
            Action.WEBHOOKS_CHANGE,
        }
        assert set(Action) - asked - {Action.GATEWAY_CALL} == by_handlers
        assert {route.path for route in api.routes if route.action is None} - {path for _, path in PUBLIC} == {
            "/api/auth/logout",
            "/api/auth/me",
            "/api/auth/sessions",
            "/api/auth/sessions/{id}",
            "/api/invitations/{id}/accept",
            "/api/limits/defaults",
            "/api/provider-tokens/{provider}/callback",
            "/api/teams",
        }


# Browsers


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "{own}"}, False),
        ({"Origin": "{own}"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:3722"}, False),
        ({"Origin": "null"}, False),
    ],
)
async def test_unsafe_methods_refuse_what_other_sites_make_a_browser_send(
    signer: SessionTokenSigner, headers: dict[str, str], allowed: bool
) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        headers = {name: value.format(own=api.url) for name, value in headers.items()}
        answer = await api.call("DELETE", f"/api/sessions/{summary(1).id}", headers=headers)
        if allowed:
            assert answer.status_code == 204
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site_request")
            assert api.store.calls == []
        assert (await api.get("/api/sessions", headers=headers)).status_code == 200


async def test_behind_a_reverse_proxy_the_public_origin_counts(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1)), public_origin="https://api.example.org") as api:
        path = f"/api/sessions/{summary(1).id}"
        assert (await api.call("DELETE", path, headers={"Origin": api.url})).status_code == 403
        assert (await api.call("DELETE", path, headers={"Origin": "https://api.example.org"})).status_code == 204


# Bodies


ISSUE = "/api/devices/front-door/session-tokens"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 201, None),
        (b"{}", {"Content-Type": "application/json"}, 201, None),
        (b"{}", {"Content-Type": "application/json; charset=utf-8"}, 201, None),
        (b"{}", {"Content-Type": "application/merge-patch+json"}, 201, None),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b'{"expires_in": ', {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"\xff\xfe", {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b'{"service": "\xff"}', {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"{} {}", {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"[" * 4000, {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"a":' * 800, {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b"null", {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b"[]", {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": "60"}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": 1e400}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": 60.5}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": true}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": 59}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": 86401}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires_in": 99999999999999999999999}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"service": "../x"}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"service": ["web"]}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b'{"expires": 60}', {"Content-Type": "application/json"}, 422, "validation_failed"),
        (b" " * (LIMIT + 1), {"Content-Type": "application/json"}, 413, "body_too_large"),
    ],
)
async def test_a_body_is_what_it_must_be(
    signer: SessionTokenSigner, content: bytes, headers: Mapping[str, str], status: int, code: str | None
) -> None:
    async with running_api(signer) as api:
        answer = await api.call("POST", ISSUE, content=content, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.json().get("code") == code


async def test_a_body_without_a_length_is_cut_at_the_limit(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        head = (
            f"POST {ISSUE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN.reveal()}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        ).encode()
        chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
        status, problem = await exchange(api.port, head + chunk * 5)
        assert (status, problem["code"]) == (413, "body_too_large")


async def test_a_body_with_broken_framing_is_malformed(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        head = (
            f"POST {ISSUE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN.reveal()}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        ).encode()
        status, problem = await exchange(api.port, head + b"zz\r\n{}\r\n0\r\n\r\n")
        assert (status, problem["code"]) == (400, "bad_request")


# Queries and paths


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=1.5", "limit=1&limit=2", "limit=", "limi=5", "cursor=",
     f"cursor={'x' * 513}", "team=home&team=away"],
)  # fmt: skip
async def test_a_query_is_what_it_must_be(signer: SessionTokenSigner, query: str) -> None:
    async with running_api(signer) as api:
        answer = await api.get(f"/api/sessions?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert api.store.calls == []


async def test_a_route_without_a_query_takes_none(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        assert (await api.get("/api/auth/me?verbose=1")).status_code == 422
        assert (await api.get("/healthz?x=1")).status_code == 422


# Faults of ours


class _Boom(msgspec.Struct):
    text: str


class Faulty:
    """Endpoints that fail in ways that a handler should not."""

    def routes(self) -> list[Route]:
        return [
            Route(method="POST", path="/fault/{id}", handler=self.fail),
            Route(method="GET", path="/fault/stream", handler=self.fail_after_the_head),
        ]

    async def fail(self, caller: Caller, body: _Boom) -> None:
        """Fail."""
        raise RuntimeError(f"a bug that quotes {body.text} of {caller.identity.name}")

    async def fail_after_the_head(self, request: web.Request) -> web.StreamResponse:
        """Fail late."""
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise RuntimeError("a bug")


async def test_a_bug_is_a_500_that_tells_nothing_and_a_log_line_that_tells_all(signer: SessionTokenSigner) -> None:
    async with running_api(signer, more=Faulty().routes()) as api:
        answer = await api.call("POST", "/fault/x", json={"text": "private"})
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "private" not in answer.text
        assert "RuntimeError" not in answer.text
        lines = [json.loads(line) for line in api.logs.getvalue().splitlines()]
        (fault,) = [line for line in lines if line["event"] == "request failed"]
        assert fault["request_id"] == answer.json()["request_id"]
        assert "RuntimeError: a bug" in fault["exception"]


async def test_a_bug_after_the_head_cuts_the_connection(signer: SessionTokenSigner) -> None:
    async with running_api(signer, more=Faulty().routes()) as api:
        request = f"GET /fault/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {ADMIN.reveal()}\r\n\r\n".encode()
        received = await exchange_bytes(api.port, request)
        body = received.partition(b"\r\n\r\n")[2]
        assert body in (b"", b"5\r\nbegun\r\n"), "no last chunk: the answer must not look whole"


async def test_a_relay_that_is_away_is_a_502_of_its_own_code(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        api.store.fault = RelayUnavailableError("the relay does not answer", retry_after=1.2)
        answer = await api.get("/api/sessions")
        assert (answer.status_code, answer.json()["code"]) == (502, "relay_unavailable")
        assert answer.headers["Retry-After"] == "2"
        (line,) = [json.loads(line) for line in api.logs.getvalue().splitlines()]
        assert (line["code"], line["request_id"]) == ("relay_unavailable", answer.headers["X-Request-Id"])
