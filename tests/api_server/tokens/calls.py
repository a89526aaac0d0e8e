"""Calls that the tests of API tokens make again and again."""

from __future__ import annotations

from typing import Any

import httpx

from common.secret import Secret
from tests.api_server.people import Home, Person

__all__ = ["make", "program", "try_token"]


async def make(home: Home, who: Person, *scopes: str, **more: Any) -> dict[str, Any]:
    """A token that `who` makes: what is answered, the token included."""
    answer = await home.call("POST", "/api/api-tokens", who, json={"name": "ci", "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def program(made: dict[str, Any]) -> Person:
    """Whoever shows that token."""
    return Person(made["id"], "", Secret(made["token"]))


async def try_token(home: Home, made: dict[str, Any]) -> httpx.Response:
    """A call that every token that holds may make."""
    return await home.call("GET", "/api/teams", program(made))
