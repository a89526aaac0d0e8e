"""The exchange of a pairing token, by real API processes on real databases: one token is one device, whoever races for
it, and wherever the answer is lost.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.tables import audit_log
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.devices.tables import credentials, devices, pairing_tokens, pairing_uses
from common.crypto.api_tokens import stored_hash
from common.crypto.device_keys import DeviceKey, Purpose, thumbprint
from common.secret import Secret
from tests.e2e.holding_proxy import HoldingProxy, holding_proxy, socket_like
from tests.stack.homeport import Api, Keys, Relay, api, command, relay
from tests.stack.process import Process

pytestmark = pytest.mark.anyio

AT_ONCE = 100


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys that all installations here share."""
    return Keys.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def running_relay(home: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with relay(tmp_path_factory.mktemp("relay"), home) as running:
        yield running


@contextmanager
def api_on(folder: Path, home: Keys, to: Relay, database_url: str, port: int = 0) -> Iterator[Api]:
    """`homeport api` on a database."""
    folder.mkdir(exist_ok=True)
    environment = {"HOMEPORT_DATABASE_URL": database_url, "HOMEPORT_API_PORT": str(port)}
    with api(folder, home, to, environment=environment) as running:
        yield running


def new_token(home: Keys, url: str) -> str:
    """A pairing token for one device."""
    headers = {"Authorization": f"Bearer {home.admin_token}"}
    answer = httpx.post(f"{url}/api/pairing-tokens", json={"team": home.team}, headers=headers, trust_env=False)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def exchange_of(token: str, key: DeviceKey, name: str) -> dict[str, Any]:
    """The body of a device's request."""
    proof = key.prove(Purpose.PAIR, stored_hash(Secret(token)), time.time())
    return {"token": token, "name": name, "public_key": key.public, "proof": proof}


async def facts(database_url: str) -> tuple[list[Any], list[Any], list[Any], list[str]]:
    """Devices, pairing tokens, uses of them, and what the audit log says has been done."""

    async def work(tx: AsyncConnection) -> tuple[list[Any], list[Any], list[Any], list[str]]:
        done = select(audit_log.c.action).where(audit_log.c.outcome == "done").order_by(audit_log.c.seq)
        return (
            list(await tx.execute(select(devices))),
            list(await tx.execute(select(pairing_tokens))),
            list(await tx.execute(select(pairing_uses))),
            [action for (action,) in await tx.execute(done)],
        )

    async with Database.connect(database_url) as database:
        return await database.read(work)


async def test_a_hundred_at_two_servers_make_one_device(
    tmp_path: Path, home: Keys, running_relay: Relay, database_url: str
) -> None:
    """First by a hundred keys, of which one gets in; then by one key, which is one device however often it asks."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(api_on(tmp_path / name, home, running_relay, database_url)).api
            for name in ("one", "two")
        ]
        limits = httpx.Limits(max_connections=2 * AT_ONCE)
        async with httpx.AsyncClient(trust_env=False, timeout=120, verify=False, limits=limits) as http:

            async def all_at_once(bodies: Sequence[dict[str, Any]]) -> list[httpx.Response]:
                return await asyncio.gather(
                    *(
                        http.post(f"{servers[number % 2]}/api/pairing/exchange", json=body)
                        for number, body in enumerate(bodies)
                    )
                )

            token = new_token(home, servers[0])
            keys = [DeviceKey.generate() for _ in range(AT_ONCE)]
            answers = await all_at_once(
                [exchange_of(token, key, f"device-{number}") for number, key in enumerate(keys)]
            )
            codes = Counter("in" if each.status_code == 201 else each.json()["code"] for each in answers)
            assert codes.pop("in") == 1, codes
            # Those after many wrong ones are told to wait. None is told that something went wrong here.
            assert set(codes) <= {"pairing_token_used", "too_many_codes"}, codes
            winner = next(number for number, each in enumerate(answers) if each.status_code == 201)

            made, tokens, uses, done = await facts(database_url)
            assert [(each.id, each.name) for each in made] == [
                (answers[winner].json()["device"]["id"], f"device-{winner}")
            ]
            assert [(each.uses, each.used) for each in tokens] == [(1, 1)]
            assert [each.key_thumbprint for each in uses] == [thumbprint(keys[winner].public)]
            assert done.count("device.paired") == 1

            # What is changed at one server is so at the other at once.
            http.headers["Authorization"] = f"Bearer {home.admin_token}"
            one, two = (f"{server}/api/devices/device-{winner}?team={home.team}" for server in servers)
            assert (await http.patch(one, json={"disabled": True})).status_code == 200
            assert (await http.get(two)).json()["disabled_at"] is not None
            body = exchange_of(token, keys[winner], "again")
            refused = await http.post(f"{servers[1]}/api/pairing/exchange", json=body)
            assert (refused.status_code, refused.json()["code"]) == (403, "device_disabled")
            assert (await http.patch(two, json={"disabled": False})).status_code == 200
            assert (await http.get(one)).json()["disabled_at"] is None

            # Each request has a proof of its own, as from a device that does not wait for its answers.
            again, key = new_token(home, servers[1]), DeviceKey.generate()
            answers = await all_at_once([exchange_of(again, key, "eager") for _ in range(10)])
            assert {each.status_code for each in answers} == {201}, [each.text for each in answers]
            assert len({each.json()["device"]["id"] for each in answers}) == 1
            made, tokens, uses, done = await facts(database_url)
            assert (len(made), [each.used for each in tokens], len(uses)) == (2, [1, 1], 2)
            assert done.count("device.paired") == 2
            assert done.count("device.paired_again") == 9

        verified = stack.enter_context(audit_verify(tmp_path, home, database_url))
        assert verified.wait() == 0, verified.log.read_text()


@contextmanager
def audit_verify(folder: Path, home: Keys, database_url: str) -> Iterator[Process]:
    """`homeport audit verify`: two processes have written one chain."""
    environment = {"HOMEPORT_DATABASE_URL": database_url, "HOMEPORT_DATA_DIR": str(home.folder)}
    with Process("verify", [command(), "audit", "verify"], folder=folder, environment=environment) as process:
        yield process


@contextmanager
def cut_at_the_commit(kind: Kind, url: str) -> Iterator[tuple[str, HoldingProxy]]:
    """A proxy to a database server that keeps back the answer to the COMMIT of an exchange; and the URL through it."""
    parsed = make_url(url)
    if kind is Kind.POSTGRESQL:
        original = next(Path(str(parsed.query["host"])).glob(".s.PGSQL.*[0-9]"))
    else:
        original = Path(str(parsed.query["unix_socket"]))

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(original))
        return server

    with (
        socket_like(original) as (listener, path),
        holding_proxy(listener, connect, after=(b"INSERT INTO pairing_uses", b"COMMIT")) as proxy,
    ):
        query = {"host": str(path.parent)} if kind is Kind.POSTGRESQL else {"unix_socket": str(path)}
        yield parsed.set(query=query).render_as_string(hide_password=False), proxy


@contextmanager
def cut_before_the_answer(api_url: str) -> Iterator[tuple[str, HoldingProxy]]:
    """A proxy to the API that keeps back the answer to an exchange; and the URL through it."""
    parts = urlsplit(api_url)
    assert parts.hostname is not None
    where = parts.hostname, parts.port
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with holding_proxy(
        listener, lambda: socket.create_connection(where), after=(b"POST /api/pairing/exchange",)
    ) as proxy:
        yield url, proxy


async def test_killed_between_commit_and_answer(
    tmp_path: Path, home: Keys, running_relay: Relay, database_kind: Kind, database_url: str
) -> None:
    """`homeport agent pair` asks again by itself, and the API that was started meanwhile gives it the same device.

    The API is killed when the database has committed and the API has not heard of it; with SQLite, which answers
    within the process, when the API has answered and the device has not heard of it.
    """
    with ExitStack() as stack:
        url_of_api_database = database_url
        if database_kind is not Kind.SQLITE:
            url_of_api_database, proxy = stack.enter_context(cut_at_the_commit(database_kind, database_url))
        first = stack.enter_context(api_on(tmp_path / "api", home, running_relay, url_of_api_database))
        asked = first.api
        if database_kind is Kind.SQLITE:
            asked, proxy = stack.enter_context(cut_before_the_answer(first.api))
        token = new_token(home, first.api)
        folder = tmp_path / "agent"
        arguments = ["agent", "pair", "--api", asked, "--name", "greenhouse", "--data-dir", str(folder)]
        pairing = stack.enter_context(
            Process("pair", [command(), *arguments], folder=tmp_path, environment={"HOMEPORT_PAIRING_TOKEN": token})
        )

        await asyncio.to_thread(proxy.wait_until_held)
        first.process.signal(signal.SIGKILL)
        first.process.wait()
        made, _, _, done = await facts(database_url)
        assert [each.name for each in made] == ["greenhouse"]
        assert done[-1] == "device.paired"
        assert pairing.running
        assert not (folder / "device.json").exists()

        port = urlsplit(first.api).port
        assert port is not None
        stack.enter_context(api_on(tmp_path / "api", home, running_relay, url_of_api_database, port))
        assert await asyncio.to_thread(pairing.wait, seconds=90) == 0, pairing.log.read_text()

        after, tokens, uses, done = await facts(database_url)
        assert [each.id for each in after] == [made[0].id]
        assert json.loads((folder / "device.json").read_bytes())["device"] == made[0].id
        assert [(each.uses, each.used) for each in tokens] == [(1, 1)]
        assert [each.device_id for each in uses] == [made[0].id]
        assert done[-2:] == ["device.paired", "device.paired_again"]
        # Of the two session tokens the device has the one; nobody has ever seen the other.
        async with Database.connect(database_url) as database:
            issued = await database.read(lambda tx: tx.execute(select(credentials.c.device_id)))
            assert {each.device_id for each in issued} == {made[0].id}
