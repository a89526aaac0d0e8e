"""What tests of routes ask of the API."""

from __future__ import annotations

from typing import Any

from tests.api_server.people import PROGRAM, Home, Person

__all__ = ["BACKEND", "TO_LATHE", "code_of", "made", "route", "secret"]

TO_LATHE = {"kind": "device", "device": "lathe", "service": "web"}
BACKEND = "https://api.example.org"


async def made(home: Home, path: str, body: Any, who: Person = PROGRAM) -> Any:
    """What was made."""
    answer = await home.call("POST", path, who, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def route(home: Home, name: str = "lathe", path: str = "/lathe", who: Person = PROGRAM, **more: Any) -> Any:
    """A new route."""
    return await made(home, "/api/routes", {"name": name, "path": path, "target": TO_LATHE, **more}, who)


async def secret(home: Home, name: str = "key", destination: str = BACKEND, value: str = "s3cret", **more: Any) -> Any:
    """A new upstream secret."""
    return await made(home, "/api/upstream-secrets", {"name": name, "destination": destination, "value": value, **more})


async def code_of(home: Home, method: str, path: str, body: Any = None, who: Person = PROGRAM) -> tuple[int, str]:
    """Status and code of a refusal."""
    answer = await home.call(method, path, who, **({} if body is None else {"json": body}))
    return answer.status_code, answer.json()["code"]
