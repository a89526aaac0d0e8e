"""A team with a realm at a provider of ours, over HTTP all the way: caller, API, provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from api_server.db.database import Database
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.outbound.stage import no_outbound
from tests.api_server.people import PROGRAM, Home, Person, running_domains
from tests.stack.provider import TokenProvider

__all__ = ["CSRF", "SECRET", "BrokerStage", "brokered"]

CSRF = {"X-Homeport-CSRF": "1"}
SECRET = "hunter2-secret"

REALM: dict[str, Any] = {
    "method": "GET",
    "arguments": [
        {"name": "appid", "place": "url", "value": "$key_1"},
        {"name": "secret", "place": "url", "value": "$key_2"},
    ],
    "success": {"path": "errcode", "values": [0]},
    "refusal": {"path": "errcode", "values": [40001]},
    "message_path": "errmsg",
}


@dataclass
class BrokerStage:
    """What runs."""

    home: Home
    provider: TokenProvider

    async def ok(self, method: str, path: str, body: Any = None, who: Person = PROGRAM) -> Any:
        answer = await self.home.call(method, path, who, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def realm(self, name: str = "r", **config: Any) -> None:
        await self.ok(
            "POST", "/api/realm", {"id": name, "config": {**REALM, "url": f"{self.provider.url}/token", **config}}
        )

    async def secret(self, realm: str = "r", key: str = "k", **fields: Any) -> None:
        given = fields or {"key_1": "app", "key_2": SECRET}
        await self.ok("POST", "/api/secret", {"realm": realm, "key": key, **given})

    async def get(self, realm: str = "r", key: str = "k", *, who: Person = PROGRAM, **query: Any) -> httpx.Response:
        return await self.home.call("GET", "/api/token", who, params={"realm": realm, "key": key, **query})

    async def token(self, **query: Any) -> str:
        answer = await self.get(**query)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    async def refusal(self, **query: Any) -> tuple[int, str, str | None]:
        """Status, code and Retry-After of an answer that has no token."""
        answer = await self.get(**query)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["code"], answer.headers.get("Retry-After")

    async def settled(self) -> None:
        """Until nothing is fetched any more."""
        await self.home.domains.broker.aclose()

    async def fetches(self, realm: str = "r") -> list[dict[str, Any]]:
        found = await self.ok("GET", f"/api/realm/{realm}/fetches")
        return list(found["items"])

    @property
    def calls(self) -> int:
        return len(self.provider.calls)


@asynccontextmanager
async def brokered(
    url: str, signer: SessionTokenSigner, provider: TokenProvider, *, allowed: str = "127.0.0.1"
) -> AsyncIterator[BrokerStage]:
    """The stage over a database, without any realm."""
    async with (
        Database.connect(url) as database,
        running_domains(database, signer, outbound=no_outbound(allowed)) as home,
    ):
        yield BrokerStage(home, provider)
        await home.domains.broker.aclose()
