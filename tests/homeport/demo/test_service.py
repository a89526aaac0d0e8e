"""The demo service over real connections."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import httpx
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from common.clock import SystemClock
from homeport.demo.keystream import keystream
from homeport.demo.service import DemoService

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serve(*, tick: float = 1.0) -> AsyncIterator[str]:
    runner = web.AppRunner(
        DemoService(SystemClock(), tick=tick).application(), access_log=None, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serve() as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as session:
        yield session


class Links(HTMLParser):
    """Every address in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"href", "src", "action"} and value is not None]


async def test_the_page_works_under_any_prefix_and_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(page.text)
    assert {"style.css", "demo.js", "icon.svg", "clock"} <= set(links.found)
    for link in links.found:
        assert re.fullmatch(r"[a-z0-9.]+(/[0-9]+)?", link), f"{link} does not stay under the page's own address"
    assert "<style" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("name", "content_type"), [("style.css", "text/css"), ("demo.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
)
async def test_the_files_beside_the_page(client: httpx.AsyncClient, name: str, content_type: str) -> None:
    file = await client.get(f"/{name}")
    assert file.status_code == 200
    assert file.headers["content-type"].startswith(content_type)
    assert "://" not in file.text.replace('xmlns="http://www.w3.org/2000/svg"', "")


async def test_the_clock_sends_events_as_they_happen() -> None:
    async with (
        serve(tick=0.001) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", "/clock") as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.aiter_lines()
        told = [json.loads(line.removeprefix("data: ")) async for line in _until(lines, 3, prefix="data: ")]
    assert [event["count"] for event in told] == [0, 1, 2]
    assert told[0]["time"] < told[2]["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told[0]["time"])


async def _until(lines: AsyncIterator[str], count: int, *, prefix: str) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith(prefix):
            yield line
            count -= 1
            if count == 0:
                return


async def test_the_echo_sends_back_text_and_bytes(url: str) -> None:
    async with connect(url.replace("http", "ws") + "/echo", max_size=None) as socket:
        for message in ("hello", "", "\N{HOUSE BUILDING}" * 1000, b"\x00\xff", b"x" * 5_000_000):
            await socket.send(message)
            assert await socket.recv() == message


async def test_a_stop_ends_clocks_and_sockets_at_once() -> None:
    async with httpx.AsyncClient() as client:
        async with serve(tick=3600) as url:
            socket = await connect(url.replace("http", "ws") + "/echo")
            request = client.build_request("GET", url + "/clock")
            clock = await client.send(request, stream=True)
            # Both are under way; leaving the block stops the service, which must wait for neither.
        assert b'"count": 0' in await clock.aread()
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize("size", [0, 1, 15, 16, 1_000_003])
async def test_bytes_have_the_asked_size_and_are_the_same_each_time(client: httpx.AsyncClient, size: int) -> None:
    answer = await client.get(f"/bytes/{size}")
    assert answer.headers["content-length"] == str(size)
    assert answer.content == b"".join(keystream(0, size))
    head = await client.head(f"/bytes/{size}")
    assert head.headers["content-length"] == str(size)
    assert head.content == b""


async def test_bytes_are_streamed_however_many(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/bytes/999999999999999999") as answer:
        assert answer.headers["content-length"] == "999999999999999999"
        first = await anext(answer.aiter_raw())
    assert first == b"".join(keystream(0, len(first)))


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=500-999": (500, 1000),
    "bytes=990-": (990, 1000),
    "bytes=-10": (990, 1000),
    "bytes=900-5000": (900, 1000),
    "bytes=-5000": (0, 1000),
}


@pytest.mark.parametrize(("asked", "span"), RANGES.items())
async def test_a_range_is_that_part(client: httpx.AsyncClient, asked: str, span: tuple[int, int]) -> None:
    start, stop = span
    answer = await client.get("/bytes/1000", headers={"Range": asked})
    assert answer.content == b"".join(keystream(start, stop))
    if (start, stop) == (0, 1000):
        assert answer.status_code == 200
    else:
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/1000"


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=2000-3000"])
async def test_a_range_outside_is_refused(client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get("/bytes/1000", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize("asked", ["bytes=9-1", "lines=1-2", "bytes=0-1,5-6"])
async def test_a_range_that_means_nothing_here_is_ignored(client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get("/bytes/1000", headers={"Range": asked})
    assert answer.status_code == 200
    assert len(answer.content) == 1000


async def test_the_hash_of_a_body_of_unknown_length(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        for chunk in keystream(0, 3_000_000):
            yield chunk

    answer = await client.post("/sha256", content=body())
    assert answer.text == hashlib.sha256(b"".join(keystream(0, 3_000_000))).hexdigest()
    empty = await client.post("/sha256")
    assert empty.text == hashlib.sha256(b"").hexdigest()


async def test_headers_shows_the_request_as_it_arrived(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/headers?a=1&b=%2F", headers=[("X-Twice", "one"), ("X-Twice", "two"), ("x-lower", "kept")], content=b"body"
    )
    arrived = answer.json()
    assert arrived["method"] == "PUT"
    assert arrived["path"] == "/headers?a=1&b=%2F"
    assert arrived["http_version"] == "1.1"
    assert arrived["headers"]["X-Twice"] == "one, two"
    assert arrived["headers"]["x-lower"] == "kept"
    assert ["X-Twice", "one"] in arrived["raw_headers"]
    assert ["X-Twice", "two"] in arrived["raw_headers"]


@pytest.mark.parametrize(("code", "text"), [(200, "200 OK\n"), (418, "418 I'm a Teapot\n"), (599, "599 Unassigned\n")])
async def test_status_answers_with_it(client: httpx.AsyncClient, code: int, text: str) -> None:
    answer = await client.get(f"/status/{code}")
    assert (answer.status_code, answer.text) == (code, text)


@pytest.mark.parametrize("code", [204, 304])
async def test_a_status_without_content_has_none(client: httpx.AsyncClient, code: int) -> None:
    answer = await client.post(f"/status/{code}")
    assert (answer.status_code, answer.content) == (code, b"")


@pytest.mark.parametrize("code", ["101", "600", "099"])
async def test_a_status_that_is_no_final_one_is_refused(client: httpx.AsyncClient, code: str) -> None:
    assert (await client.get(f"/status/{code}")).status_code == 400


async def test_slow_answers_after_that_time_and_holds_up_nobody(client: httpx.AsyncClient) -> None:
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(client.get("/slow/3600"))
        assert (await client.get("/slow/0.25")).text == "after 0.25 s\n"
        assert not slow.done()
        slow.cancel()
