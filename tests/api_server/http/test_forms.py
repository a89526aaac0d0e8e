"""Bodies that are forms, as OAuth and browsers send them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from api_server.http.openapi import openapi_document
from api_server.http.routes import Route
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.rest import LIMIT, running_api

pytestmark = pytest.mark.anyio

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    word: Annotated[str, Meta(max_length=10)]
    other: str | None = None


class Endpoints:
    async def echo(self, form: Answer) -> Answer:
        """Give back the form."""
        return form


ROUTE = Route(method="POST", path="/form", handler=Endpoints().echo)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"word=a%20b+c&unknown=1", FORM, 200, None),
        (b"word=a%20b+c", {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, 200, None),
        (b"", FORM, 422, "validation_failed"),
        (b"word=a&word=a", FORM, 422, "validation_failed"),
        (b"word=elevenchars", FORM, 422, "validation_failed"),
        (b"word=%ff", FORM, 422, "validation_failed"),
        (b"word=\xff", FORM, 422, "validation_failed"),
        (b"&".join([b"x=1"] * 40), FORM, 422, "validation_failed"),
        (b'{"word": "a"}', {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        (b"word=a", FORM | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b"word=" + b"a" * LIMIT, FORM, 413, "body_too_large"),
    ],
)
async def test_forms(
    signer: SessionTokenSigner, body: bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    async with running_api(signer, more=[ROUTE]) as api:
        answer = await api.call("POST", "/form", content=body, headers=headers)
        assert (answer.status_code, answer.json().get("code")) == (status, code)
        if status == 200:
            assert answer.json() == {"word": "a b c", "other": None}


def test_a_form_is_described() -> None:
    operation = openapi_document([ROUTE], version="1")["paths"]["/form"]["post"]
    assert operation["requestBody"] == {
        "required": True,
        "content": {"application/x-www-form-urlencoded": {"schema": {"$ref": "#/components/schemas/Answer"}}},
    }
    assert "malformed_json" not in operation["responses"].get("400", {}).get("description", "")
