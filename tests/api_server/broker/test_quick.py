"""`GET /api/token` from memory, on the connection itself: the same answer, and never when anything is unusual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from api_server.http.quick import is_whole_head, plain_head
from api_server.server import ApiServer
from tests.api_server.test_server import running
from tests.contract.relay_fixture import running_relay
from tests.stack.provider import TokenProvider, token_provider

pytestmark = pytest.mark.anyio

PATH = "/api/token?realm=r&key=k"


@pytest.fixture
def provider() -> Iterator[TokenProvider]:
    with token_provider() as running_provider:
        yield running_provider


@pytest.fixture
async def api(
    anyio_backend: str, tmp_path: Path, provider: TokenProvider
) -> AsyncIterator[tuple[ApiServer, httpx.AsyncClient]]:
    async with (
        running_relay(tmp_path) as relay,
        running(tmp_path, relay, allow_private_targets=("127.0.0.1",)) as (server, http),
    ):
        realm = {"id": "r", "config": {"url": f"{provider.url}/token"}}
        assert (await http.post("/api/realm", json=realm)).status_code == 201
        secret = {"realm": "r", "key": "k", "key_1": "v"}
        assert (await http.post("/api/secret", json=secret)).status_code == 201
        assert (await http.get(PATH)).json()["source"] == "upstream"
        yield server, http


def hits(server: ApiServer) -> float:
    return server.registry.get_sample_value("homeport_broker_requests_total", {"result": "hit"}) or 0.0


def strange(http: httpx.AsyncClient) -> dict[str, str]:
    """A field that keeps a request from being answered at once."""
    return {**http.headers, "X-Unusual": "1"}


async def test_the_answer_is_that_of_the_endpoint(api: tuple[ApiServer, httpx.AsyncClient]) -> None:
    server, http = api
    before = hits(server)
    quick = [await http.get(PATH) for _ in range(3)]
    slow = await http.get(PATH, headers=strange(http))
    assert hits(server) == before + 4
    for answer in quick:
        different = {"date", "x-request-id", "content-length"}
        assert {k: v for k, v in answer.headers.items() if k not in different} == {
            k: v for k, v in slow.headers.items() if k not in different
        }
        assert set(answer.headers) == set(slow.headers)
        assert answer.json() | {"expires_in": 0} == slow.json() | {"expires_in": 0}
    assert len({answer.headers["x-request-id"] for answer in quick}) == 3


async def test_what_must_not_be_served_is_not(
    api: tuple[ApiServer, httpx.AsyncClient], provider: TokenProvider
) -> None:
    _, http = api
    made = await http.post("/api/api-tokens", json={"team": "home", "name": "app", "scopes": ["realm_tokens:get"]})
    assert made.status_code == 201, made.text
    program = {"Authorization": f"Bearer {made.json()['token']}"}
    for _ in range(3):
        assert (await http.get(PATH, headers=program)).json()["token"] == "token-1"
    assert (await http.get(PATH + "&flush=true", headers=program)).json()["code"] == "forbidden"
    assert (await http.get(PATH + "&team=away", headers=program)).json()["code"] == "no_such_team"
    assert (await http.get(PATH, headers={"Authorization": "Bearer hp_nobody"})).status_code == 401
    assert (await http.get(PATH + "&flush=true")).json()["token"] == "token-2"
    assert (await http.get(PATH, headers=program)).json()["token"] == "token-2"
    await http.patch("/api/secret/r/k", json={"key_1": "w"})
    assert (await http.get(PATH, headers=program)).json()["token"] == "token-3"
    assert (await http.delete(f"/api/api-tokens/{made.json()['id']}")).status_code < 300
    assert (await http.get(PATH, headers=program)).status_code == 401
    assert (await http.delete("/api/realm/r")).status_code == 204
    assert (await http.get(PATH)).json()["code"] == "no_such_realm"


async def test_requests_that_come_in_pieces_or_together(api: tuple[ApiServer, httpx.AsyncClient]) -> None:
    server, http = api
    token = http.headers["Authorization"]
    one = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode()
    last = one.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
    port = int(server.api_url.rpartition(":")[2])
    for pieces in (
        [one, one, last],
        [one + one + last],
        [one[:30], one[30:], one, last],
        [one + last[:10], last[10:]],
        [one, b"POST /api/realm HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(last), last, last],
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)  # so that it comes by itself
        came = await reader.read()
        writer.close()
        wanted = b"".join(pieces).count(b"GET ")
        if b"POST" in pieces[1 if len(pieces) > 1 else 0]:
            wanted -= 1  # what stands in the body is no request
            assert came.count(b"HTTP/1.1 401") == 1
        assert came.count(b"HTTP/1.1 200 OK") == wanted, pieces


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nAccept: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
    ],
)
def test_an_unusual_head(head: bytes) -> None:
    assert plain_head(head) is None


def test_a_plain_head() -> None:
    head = b"GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
    assert plain_head(head) == (b"/a?b", [(b"host", b"x"), (b"accept", b"*/*")])
    assert is_whole_head(head)
    for other in (head[:-2], head + head, head.replace(b"Accept", b"Content-Length"), b"POST" + head[3:], b""):
        assert not is_whole_head(other)
