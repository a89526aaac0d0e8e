"""The OpenAPI document, and the pages made of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api_server.http.pages import PAGE_POLICY
from api_server.http.public import PUBLIC
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import FakeStore, summary
from tests.api_server.rest import running_api

pytestmark = pytest.mark.anyio


async def test_every_route_is_described(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        document = (await api.get("/openapi.json", token=None)).json()
        assert document["openapi"] == "3.1.0"
        described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        assert described == {(route.method, route.path) for route in api.routes}
        errors = {(route.method, route.path): route.errors for route in api.routes}
        operations = [operation for methods in document["paths"].values() for operation in methods.values()]
        assert len({operation["operationId"] for operation in operations}) == len(operations)
        for (method, path), operation in (
            ((m.upper(), p), o) for p, methods in document["paths"].items() for m, o in methods.items()
        ):
            assert operation["summary"]
            assert (operation.get("security") == []) == ((method, path) in PUBLIC), path
            own_proof = any(error.status == 401 for error in errors[method, path])
            assert ("401" in operation["responses"]) == (own_proof or (method, path) not in PUBLIC), path
            variables = set(re.findall(r"{(\w+)}", path))
            named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert variables == named, path


async def test_every_reference_leads_somewhere_and_every_schema_is_used(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        document = (await api.get("/openapi.json", token=None)).json()
        used = set(_references(document))
        assert {reference.rpartition("/")[2] for reference in used} == document["components"]["schemas"].keys()


def _references(node: Any) -> list[str]:
    match node:
        case dict():
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in _references(value)]
        case list():
            return [found for value in node for found in _references(value)]
        case _:
            return []


async def test_a_session_is_as_it_is_described(signer: SessionTokenSigner) -> None:
    async with running_api(signer, FakeStore(summary(1))) as api:
        document = (await api.get("/openapi.json", token=None)).json()
        described = document["components"]["schemas"]["Summary"]
        (item,) = (await api.get("/api/sessions")).json()["items"]
        assert item.keys() == described["properties"].keys()
        assert set(described["required"]) <= item.keys()


async def test_every_refusal_that_is_answered_is_described(signer: SessionTokenSigner) -> None:
    """What the tests of this folder provoke on the issuing of tokens stands in the document, by status."""
    async with running_api(signer) as api:
        document = (await api.get("/openapi.json", token=None)).json()
        responses = document["paths"]["/api/devices/{id}/session-tokens"]["post"]["responses"]
        assert set(responses) >= {"201", "400", "401", "403", "404", "408", "413", "415", "422", "429", "500"}
        assert "`unauthenticated`" in responses["401"]["description"]
        assert list(responses["401"]["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("path", ["/docs", "/docs/errors"])
async def test_a_page_needs_nothing_from_elsewhere_and_runs_nothing(signer: SessionTokenSigner, path: str) -> None:
    async with running_api(signer) as api:
        answer = await api.get(path, token=None)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
        assert "<script" not in answer.text
        assert not re.findall(r'(?:src|href)="(?!/|#)', answer.text)
        assert " style=" not in answer.text


async def test_the_reference_shows_every_path_and_the_errors_page_every_code(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        page = (await api.get("/docs", token=None)).text
        for route in api.routes:
            assert f'<span class="path">{route.path}</span>' in page
        errors = (await api.get("/docs/errors", token=None)).text
        for code in ("unauthenticated", "no_such_session", "validation_failed", "relay_unavailable", "internal_error"):
            assert f'<code id="{code}">' in errors


async def test_the_root_leads_to_the_reference(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        answer = await api.get("/", token=None)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/docs")


async def test_who_asks_may_be_known_to_the_database_alone(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        document = (await api.get("/openapi.json", token=None)).json()
    for route in api.routes:
        answers = document["paths"][route.path][route.method.lower()]["responses"]
        if (route.method, route.path) not in PUBLIC:
            assert "`database_unavailable`" in answers["503"]["description"], route.path
            assert "401" in answers
            assert "429" in answers
