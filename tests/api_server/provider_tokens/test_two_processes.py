"""Two API servers as processes of their own, one database, and a provider whose refresh tokens rotate: B1, C8."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from api_server.auth.signin.cookie_keys import ensure_cookie_keys
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.schema import METADATA
from tests.api_server.provider_tokens.double import CANARY, Double
from tests.databases.fixtures import FreshDatabase
from tests.homeport.up.running import homeport
from tests.stack.homeport import Keys, Relay, api
from tests.stack.process import Process

pytestmark = pytest.mark.anyio

PATH = "/api/provider-tokens/gitlab"
SECRET = "c4nary-client-secret"
REQUESTS = 200
AT_ONCE = 40
"""Connections at a time, to each server; the others wait in line."""


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where people sign in."""
    folder = tmp_path_factory.mktemp("provider")
    command = homeport("dev-idp", "--port", 0, "--data-dir", folder / "data", "--json")
    with Process("dev-idp", command, folder=folder, json_output=True) as process:
        yield process.read_json()["issuer"]


@dataclass
class Pair:
    """Two servers, and who calls them."""

    urls: list[str]
    logs: list[Path]
    commands: list[str]
    http: httpx.AsyncClient
    """The browser of a person who has signed in at the first."""
    token: str = ""
    """Of a program."""

    async def hand_out(self, number: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.http.post(f"{self.urls[number % 2]}{PATH}/access-token", headers=headers)


@asynccontextmanager
async def two_servers(folder: Path, database: str, issuer: str, double: Double) -> AsyncIterator[Pair]:
    (folder / "keys").mkdir()
    keys = Keys.make(folder / "keys")
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
    }
    absent = Relay(None, "ws://127.0.0.1:9/tunnel", "http://127.0.0.1:9")  # type: ignore[arg-type]  # nobody asks it
    with ExitStack() as servers:
        running = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            running.append(servers.enter_context(api(folder / name, keys, absent, environment=environment)))
        limits = httpx.Limits(max_connections=2 * AT_ONCE)
        async with httpx.AsyncClient(trust_env=False, timeout=120, verify=False, limits=limits) as http:
            yield Pair(
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
    begun = await http.get(f"{here}{PATH}/connect")
    assert begun.status_code == 303, begun.text
    callback = urlsplit(begun.headers["Location"]).query
    assert f"{here}{PATH}/callback" in httpx.QueryParams(callback)["redirect_uri"]
    answer = await http.get(f"{here}{PATH}/callback", params=double.consent(begun.headers["Location"]))
    assert answer.status_code == 303, answer.text
    body = {"team": "home", "name": "builder", "scopes": ["provider_tokens:use"]}
    made = await http.post(f"{here}/api/api-tokens", json=body, headers={"X-Homeport-CSRF": "1"})
    assert made.status_code == 201, made.text
    pair.token = made.json()["token"]


@pytest.mark.parametrize("kind", [Kind.SQLITE, Kind.POSTGRESQL], ids=lambda kind: kind.name.lower())
async def test_b1_two_processes_refresh_one_token_that_rotates(
    tmp_path: Path, fresh_database: FreshDatabase, issuer: str, double: Double, kind: Kind
) -> None:
    """200 requests at two processes: the provider sees each refresh token once, be one refresh enough for all of them,
    or each access token over as soon as it is given.
    """
    with fresh_database(kind) as url:
        async with two_servers(tmp_path, url, issuer, double) as pair:
            double.expires_in = 0.001
            await furnish(pair, issuer, double)

            double.expires_in, double.delay = 3600, 0.2
            answers = await asyncio.gather(*(pair.hand_out(number) for number in range(REQUESTS)))
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert len({answer.json()["access_token"] for answer in answers}) == 1
            assert list(double.shown.values()) == [1]

            double.expires_in, double.delay = 0.001, 0.01
            browser = pair.http
            begun = await browser.get(f"{pair.urls[0]}{PATH}/connect")
            back = double.consent(begun.headers["Location"])
            assert (await browser.get(f"{pair.urls[0]}{PATH}/callback", params=back)).status_code == 303
            answers = await asyncio.gather(*(pair.hand_out(number) for number in range(REQUESTS)))
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert set(double.shown.values()) == {1}
            assert len(double.shown) > 2
            shown = (await browser.get(f"{pair.urls[1]}{PATH}")).json()
            assert (shown["state"], shown["problem"]) == ("active", None)

            # C8: nothing of it in logs, arguments, metrics, or anywhere in the database but sealed.
            texts = [log.read_text() for log in pair.logs] + pair.commands
            admin = (tmp_path / "keys" / "admin-token").read_text().strip()
            for here in pair.urls:
                metrics = await browser.get(f"{here}/metrics", headers={"Authorization": f"Bearer {admin}"})
                assert metrics.status_code == 200
                texts.append(metrics.text)
            async with Database.connect(url) as database, database.administer() as connection:
                for table in METADATA.sorted_tables:
                    texts.append(str((await connection.execute(table.select())).all()))
                await connection.rollback()
            assert not any(CANARY in text or SECRET in text for text in texts)
