"""Canaries are sent in every place where a secret may stand, and looked for in everything that comes out."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from common.crypto.api_tokens import new_api_token
from common.crypto.session_tokens import SessionTokenSigner
from common.logging import configure
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.rest import ADMIN, FakeAuthenticator, running_api

pytestmark = pytest.mark.anyio


ISSUE = "/api/devices/front-door/session-tokens"
JSON = {"Content-Type": "application/json"}
REQUESTS = (
    ("GET", "/api/auth/me"),
    ("PUT", "/api/auth/me"),
    ("GET", "/api/auth/me?token={}"),
    ("GET", "/api/sessions/{}"),
    ("DELETE", "/api/sessions/{}"),
    ("POST", "/api/devices/{}/session-tokens"),
    ("GET", "/api/sessions?team={}"),
    ("GET", "/api/sessions?cursor={}"),
    ("GET", "/{}"),
    ("PUT", "/{}"),
    ("GET", "/metrics"),
)
"""With a token where the braces stand."""


class Careless(FakeAuthenticator):
    """A source of identity that has a bug, and quotes what it was given."""

    async def authenticate(self, credential: Secret, *, address: str) -> None:
        raise RuntimeError(f"cannot look up {credential.reveal()}")

    def authenticate_nowait(self, credential: Secret, *, address: str) -> None:
        raise RuntimeError(f"cannot look up {credential.reveal()}")


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """The real log of the process, from the lowest level up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(level="debug", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_no_token_comes_out_anywhere(signer: SessionTokenSigner, logs: io.StringIO) -> None:
    wrong = new_api_token().reveal()
    basic = base64.b64encode(f"user:{ADMIN.reveal()}".encode()).decode()
    tokens = [ADMIN.reveal(), wrong]
    async with running_api(signer, log=None) as api:
        answers = [
            await api.call(method, path.format(token), token=None, headers=headers)
            for token in tokens
            for method, path in REQUESTS
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {"X-API-Key": token, "Authorization": f"Bearer {ADMIN.reveal()}"},
                {"Authorization": f"Basic {basic}", "Cookie": f"a={token}", "Referer": f"http://x/?t={token}"},
                {"X-API-Key": token, "Origin": f"http://{token}"},
            )
        ]
        answers += [
            await api.call("POST", ISSUE, content=body.replace("TOKEN", token), headers=JSON)
            for token in tokens
            for body in ('{"TOKEN": 1}', '{"service": "TOKEN"}', '["TOKEN', '{"expires_in": "TOKEN"}')
        ]
        issued = (await api.call("POST", ISSUE)).json()["session_token"]
        answers.append(await api.get("/api/auth/me", token=Secret(issued)))
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 403, 404, 405, 422}
    shown = logs.getvalue() + "".join(str(answer.headers) + answer.text for answer in answers)
    assert '"request"' in logs.getvalue()
    for secret in (*(token[3:] for token in tokens), basic, issued):
        assert secret not in shown


async def test_a_bug_in_the_source_of_identity_tells_nothing(signer: SessionTokenSigner, logs: io.StringIO) -> None:
    async with running_api(signer, log=None, authenticator=Careless(FakeClock())) as api:
        answer = await api.get("/api/auth/me")
        assert answer.status_code == 500
        assert "cannot look up hp_***" in logs.getvalue()
        assert ADMIN.reveal()[3:] not in logs.getvalue() + answer.text
