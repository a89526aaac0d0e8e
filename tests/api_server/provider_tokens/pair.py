"""Two API servers as processes of their own, over one database, and a person who connects a provider at them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from api_server.auth.signin.cookie_keys import ensure_cookie_keys
from tests.api_server.provider_tokens.double import Double
from tests.stack.homeport import Keys, Relay, api
from tests.stack.process import Process

__all__ = ["AT_ONCE", "GITLAB", "SECRET", "Pair", "furnish", "two_servers"]

GITLAB = "/api/provider-tokens/gitlab"
SECRET = "c4nary-client-secret"
AT_ONCE = 40
"""Connections at a time, to each server; the others wait in line."""


@dataclass
class Pair:
    """Two servers, and who calls them."""

    processes: list[Process]
    urls: list[str]
    logs: list[Path]
    commands: list[str]
    http: httpx.AsyncClient
    """The browser of a person who has signed in at the first."""
    token: str = ""
    """Of a program."""

    async def hand_out(self, number: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.http.post(f"{self.urls[number % 2]}{GITLAB}/access-token", headers=headers)


@asynccontextmanager
async def two_servers(
    folder: Path, database: str, issuer: str, double: Double, *, more: Mapping[str, str] | None = None
) -> AsyncIterator[Pair]:
    """Run them.

    Args:
        folder: for their keys and logs; those of an earlier pair are taken up.
        database: that they share, as its URL.
        issuer: where people sign in.
        double: that they know as a GitLab.
        more: settings.
    """
    (folder / "keys").mkdir(exist_ok=True)
    keys = Keys.make(folder / "keys") if not (folder / "secret").exists() else Keys(folder / "keys")
    ensure_cookie_keys(folder / "keys" / "cookie-keys")
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    environment = {
        "HOMEPORT_DATABASE_URL": database,
        "HOMEPORT_OIDC_ISSUER": issuer,
        "HOMEPORT_ALLOW_PRIVATE_TARGETS": "127.0.0.1",
        "HOMEPORT_HAND_OUT_BURST": "10000",
        "HOMEPORT_PROVIDERS__GITLAB__CLIENT_ID": "app",
        "HOMEPORT_PROVIDERS__GITLAB__CLIENT_SECRET_FILE": str(folder / "secret"),
        "HOMEPORT_PROVIDERS__GITLAB__URL": double.url,
        **(more or {}),
    }
    absent = Relay(None, "ws://127.0.0.1:9/tunnel", "http://127.0.0.1:9")  # type: ignore[arg-type]  # nobody asks it
    with ExitStack() as servers:
        running = []
        for name in ("one", "two"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "api-ready.json").unlink(missing_ok=True)
            running.append(servers.enter_context(api(folder / name, keys, absent, environment=environment)))
        limits = httpx.Limits(max_connections=2 * AT_ONCE)
        async with httpx.AsyncClient(trust_env=False, timeout=120, verify=False, limits=limits) as http:
            yield Pair(
                [each.process for each in running],
                [each.api for each in running],
                [each.process.log for each in running],
                [Path(f"/proc/{each.process.pid}/cmdline").read_text() for each in running],
                http,
            )


async def furnish(pair: Pair, issuer: str, double: Double) -> None:
    """Ann signs in, connects the provider, and makes a token for a program."""
    http, here = pair.http, pair.urls[0]
    login = await http.get(f"{here}/api/auth/login")
    page = (await http.get(login.headers["Location"])).text.partition("<label>")[0]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    person = {"name": "Ann", "email": "ann@example.org"}
    chosen = await http.post(f"{issuer}/authorize", data=fields | person)
    assert (await http.get(chosen.headers["Location"])).status_code == 303
    begun = await http.get(f"{here}{GITLAB}/connect")
    assert begun.status_code == 303, begun.text
    callback = urlsplit(begun.headers["Location"]).query
    assert f"{here}{GITLAB}/callback" in httpx.QueryParams(callback)["redirect_uri"]
    answer = await http.get(f"{here}{GITLAB}/callback", params=double.consent(begun.headers["Location"]))
    assert answer.status_code == 303, answer.text
    body = {"team": "home", "name": "builder", "scopes": ["provider_tokens:use"]}
    made = await http.post(f"{here}/api/api-tokens", json=body, headers={"X-Homeport-CSRF": "1"})
    assert made.status_code == 201, made.text
    pair.token = made.json()["token"]
