"""Somebody who connects a provider in a browser, and programs and people who use what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from api_server.audit.interfaces import AuditLog
from api_server.db.database import Database
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.settings import ProviderKind, ProviderSettings
from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.people import Home, Person, running_domains
from tests.api_server.provider_tokens.double import Double
from tests.api_server.provider_tokens.stage import BASE, Wiring

__all__ = ["SECRET", "Browser", "Flow", "settings_for", "staged"]

SECRET = Secret("c4nary-client-secret")
PATH = "/api/provider-tokens"


@dataclass
class Browser:
    """Keeps cookies by hand: those of a path that begins as the request's."""

    home: Home
    person: Person
    cookies: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Value and path, by name."""

    async def get(self, path: str, **headers: str) -> httpx.Response:
        target = urlsplit(path).path
        sent = [f"{name}={value}" for name, (value, where) in self.cookies.items() if target.startswith(where)]
        if sent:
            headers["Cookie"] = "; ".join(sent)
        answer = await self.home.call("GET", path, self.person, headers=headers)
        for line in answer.headers.get_list("set-cookie"):
            self._keep(line)
        return answer

    def _keep(self, line: str) -> None:
        first, *attributes = line.split("; ")
        name, _, value = first.partition("=")
        found = dict(each.partition("=")[::2] for each in attributes)
        if found.get("Max-Age") == "0":
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = (value, found["Path"])


@dataclass
class Flow:
    """Everything."""

    home: Home
    double: Double

    def browser(self, person: Person) -> Browser:
        return Browser(self.home, person)

    async def begin(self, browser: Browser, provider: str = "gitlab", query: str = "") -> str:
        """Where the browser is sent."""
        answer = await browser.get(f"{PATH}/{provider}/connect{query}")
        assert answer.status_code == 303, answer.text
        url: str = answer.headers["Location"]
        return url

    async def come_back(self, browser: Browser, brought: dict[str, str], provider: str = "gitlab") -> httpx.Response:
        query = str(httpx.QueryParams(brought))
        return await browser.get(f"{PATH}/{provider}/callback?{query}")

    async def connect(self, person: Person, provider: str = "gitlab", query: str = "") -> None:
        """The whole way."""
        browser = self.browser(person)
        brought = self.double.consent(await self.begin(browser, provider, query))
        answer = await self.come_back(browser, brought, provider)
        assert (answer.status_code, answer.headers["Location"]) == (303, f"{BASE}/"), answer.text

    async def hand_out(self, person: Person, provider: str = "gitlab", query: str = "") -> httpx.Response:
        return await self.home.call("POST", f"{PATH}/{provider}/access-token{query}", person)

    async def show(self, person: Person, provider: str = "gitlab") -> dict[str, Any]:
        answer = await self.home.call("GET", f"{PATH}/{provider}", person)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown


def settings_for(double: Double, **changes: Any) -> dict[str, ProviderSettings]:
    """The double, as each kind that it can be."""
    api = {"client_id": "app", "client_secret": SECRET, "url": double.url, **changes}
    return {
        name: ProviderSettings(kind=kind, **api)
        for name, kind in (
            ("github", ProviderKind.GITHUB),
            ("gitlab", ProviderKind.GITLAB),
            ("bitbucket", ProviderKind.BITBUCKET),
        )
    }


@asynccontextmanager
async def staged(
    database: Database,
    signer: SessionTokenSigner,
    double: Double,
    outbound: OutboundHttp,
    *,
    audit: AuditLog | None = None,
    **wiring: Any,
) -> AsyncIterator[Flow]:
    """The stage, for as long as the block runs."""
    wired = Wiring(providers=settings_for(double), http=outbound, **wiring)
    async with running_domains(database, signer, audit=audit, wiring=wired) as home:
        yield Flow(home, double)
