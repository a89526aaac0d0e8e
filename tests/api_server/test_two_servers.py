"""Two API servers on one database serve one person's requests in turn: nothing about a person is in a process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.tables import audit_log
from api_server.auth.signin.cookie_keys import ensure_cookie_keys
from api_server.auth.signin.tables import users
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.server import ApiServer
from tests.api_server.test_server import settings
from tests.contract.relay_fixture import running_relay
from tests.databases.fixtures import FreshDatabase
from tests.homeport.up.running import homeport
from tests.stack.process import Process

pytestmark = pytest.mark.anyio

CSRF = {"X-Homeport-CSRF": "1"}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running provider."""
    folder = tmp_path_factory.mktemp("provider")
    command = homeport("dev-idp", "--port", 0, "--data-dir", folder / "data", "--json")
    with Process("dev-idp", command, folder=folder, json_output=True) as process:
        yield process.read_json()["issuer"]


@asynccontextmanager
async def two_servers(folder: Path, issuer: str, database_url: str) -> AsyncIterator[tuple[str, str]]:
    """Two API servers; gives their URLs."""
    ensure_cookie_keys(folder / "cookie-keys")
    async with running_relay(folder) as relay:
        given = settings(
            folder,
            relay_url=relay.internal_url,
            database_url=database_url,
            oidc_issuer=issuer,
            cookie_keys_file=folder / "cookie-keys",
        )
        async with ApiServer(given) as one, ApiServer(given) as two:
            yield one.api_url, two.api_url


@asynccontextmanager
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=60, verify=False) as http:
        yield http


async def callback_of(http: httpx.AsyncClient, api: str, issuer: str, name: str) -> str:
    """Path and query by which the provider sends the browser back."""
    login = await http.get(f"{api}/api/auth/login")
    page = (await http.get(login.headers["Location"])).text.partition("<label>")[0]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    person = {"name": name, "email": f"{name.lower()}@example.org"}
    chosen = await http.post(f"{issuer}/authorize", data=fields | person)
    parts = urlsplit(chosen.headers["Location"])
    return f"{parts.path}?{parts.query}"


async def status(http: httpx.AsyncClient, api: str) -> int:
    return (await http.get(f"{api}/api/auth/me")).status_code


async def until_out(http: httpx.AsyncClient, api: str) -> None:
    """Wait until a server knows a session no more: a second, and a little for a busy machine."""
    async with asyncio.timeout(30):
        while await status(http, api) == 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", [Kind.POSTGRESQL, Kind.MARIADB], ids=lambda kind: kind.name.lower())
async def test_one_person_and_two_servers(
    tmp_path: Path, issuer: str, fresh_database: FreshDatabase, kind: Kind
) -> None:
    with fresh_database(kind) as url:
        async with two_servers(tmp_path, issuer, url) as (one, two), browser() as http:
            # Begun at one, finished at the other, where the first is told that it is done.
            callback = await callback_of(http, one, issuer, "Ada")
            assert (await http.get(two + callback)).status_code == 303
            for _ in range(3):
                assert await status(http, one) == 200
                assert await status(http, two) == 200
            me = (await http.get(f"{one}/api/auth/me")).json()
            assert [team["role"] for team in me["teams"]] == ["ADMIN"]

            # S3: ended at one, it ends at the other as well, though the cookie is still there.
            async with browser() as thief:
                thief.cookies.set("homeport_session", http.cookies["homeport_session"], domain="127.0.0.1", path="/")
                assert await status(thief, two) == 200
                assert (await http.post(f"{one}/api/auth/logout", headers=CSRF)).status_code == 200
                assert await status(thief, one) == 401
                await until_out(thief, two)

            # S5: a user who is locked out is out everywhere, and does not come in again.
            callback = await callback_of(http, two, issuer, "Ada")
            assert (await http.get(one + callback)).status_code == 303
            assert [await status(http, api) for api in (one, two)] == [200, 200]

            async def lock_out(tx: AsyncConnection) -> None:
                await tx.execute(update(users).where(users.c.id == me["id"]).values(disabled_at=1_700_000_000.0))

            async with Database.connect(url) as database:
                await database.write(lock_out)
                await until_out(http, one)
                await until_out(http, two)
                callback = await callback_of(http, one, issuer, "Ada")
                answer = await http.get(two + callback)
                assert (answer.status_code, answer.json()["code"]) == (403, "user_disabled")

                async def actions(tx: AsyncConnection) -> list[tuple[str, str]]:
                    query = select(audit_log.c.action, audit_log.c.outcome).order_by(audit_log.c.seq)
                    return [(action, outcome) for action, outcome in await tx.execute(query)]

                assert await database.read(actions) == [
                    ("installation.claimed", "done"),
                    ("session.started", "done"),
                    ("session.ended", "done"),
                    ("session.started", "done"),
                    ("session.started", "refused"),
                ]


async def test_first_people_at_two_servers_make_one_admin(
    tmp_path: Path, issuer: str, fresh_database: FreshDatabase
) -> None:
    with fresh_database(Kind.POSTGRESQL) as url:
        async with two_servers(tmp_path, issuer, url) as servers:

            async def come_in(number: int) -> list[str]:
                api = servers[number % 2]
                async with browser() as http:
                    callback = await callback_of(http, api, issuer, f"Person{number}")
                    assert (await http.get(api + callback)).status_code == 303
                    return [team["role"] for team in (await http.get(f"{api}/api/auth/me")).json()["teams"]]

            roles = await asyncio.gather(*(come_in(number) for number in range(10)))
            assert sorted(roles) == [[]] * 9 + [["ADMIN"]]
