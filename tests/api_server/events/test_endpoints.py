"""`/api/events` over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from common.crypto.session_tokens import SessionTokenSigner
from common.secret import Secret
from tests.api_server.events.test_hub import event
from tests.api_server.fakes import AWAY, HOME
from tests.api_server.rest import ADMIN, BOTH_TEAMS, Api, running_api
from tests.api_server.wire import read_to_end

pytestmark = pytest.mark.anyio


class Reader:
    """Reads an event stream, part by part."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._chunks = answer.aiter_text()
        self._text = ""

    async def part(self) -> str:
        """The next event or comment; empty at the end."""
        while "\n\n" not in self._text:
            try:
                self._text += await anext(self._chunks)
            except StopAsyncIteration:
                return ""
        part, _, self._text = self._text.partition("\n\n")
        return part


@asynccontextmanager
async def following(
    api: Api, query: str = "", *, token: Secret = ADMIN, last_event_id: str | None = None
) -> AsyncIterator[Reader]:
    headers = {"Authorization": f"Bearer {token.reveal()}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    async with api.http.stream("GET", f"/api/events{query}", headers=headers) as answer:
        reader = Reader(answer)
        if answer.status_code == 200:
            assert await reader.part() == "retry: 2000"
        yield reader


async def test_an_event_arrives_as_it_happens(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api, following(api) as reader:
        assert reader.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert reader.answer.headers["Cache-Control"] == "no-store"
        assert reader.answer.headers["X-Accel-Buffering"] == "no"
        assert reader.answer.headers["X-Request-Id"].startswith("req_")
        api.hub.session_changed(event(1))
        api.hub.session_changed(event(2, AWAY))
        api.hub.session_changed(event(3, kind="session.offline"))
        lines = (await reader.part()).split("\n")
        assert lines[:2] == ["id: r-1", "event: session.online"]
        assert json.loads(lines[2].removeprefix("data: "))["session"]["device"] == "device-1"
        assert (await reader.part()).startswith("id: r-3\nevent: session.offline\n")


async def test_an_identity_of_several_teams_sees_them_all_or_one(signer: SessionTokenSigner) -> None:
    async with (
        running_api(signer) as api,
        following(api, token=BOTH_TEAMS) as both,
        following(api, "?team=away", token=BOTH_TEAMS) as away,
    ):
        api.hub.session_changed(event(1, HOME))
        api.hub.session_changed(event(2, AWAY))
        assert (await both.part()).startswith("id: r-1\n")
        assert (await both.part()).startswith("id: r-2\n")
        assert (await away.part()).startswith("id: r-2\n")


async def test_last_event_id_goes_on(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        for number in range(3):
            api.hub.session_changed(event(number))
        async with following(api, last_event_id="r-0") as reader:
            assert (await reader.part()).startswith("id: r-1\n")
            assert (await reader.part()).startswith("id: r-2\n")
        async with following(api, last_event_id="of-another-relay-7") as reader:
            assert await reader.part() == "id:\nevent: reset\ndata: {}"


async def test_a_last_event_id_that_is_too_long_is_refused(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api, following(api, last_event_id="x" * 257) as reader:
        assert reader.answer.status_code == 422


async def test_there_is_no_head_of_an_endless_answer(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api:
        answer = await api.call("HEAD", "/api/events")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


async def test_silence_is_filled_with_comments(signer: SessionTokenSigner) -> None:
    async with running_api(signer, heartbeat=0.001) as api, following(api) as reader:
        assert [await reader.part() for _ in range(3)] == [":", ":", ":"]


async def test_closing_the_hub_ends_the_stream_in_order(signer: SessionTokenSigner) -> None:
    async with running_api(signer) as api, following(api) as reader:
        api.hub.session_changed(event(1))
        api.hub.close()
        assert (await reader.part()).startswith("id: r-1\n")
        assert await reader.part() == ""
        answer = await api.get("/api/events")
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_followers")


async def test_one_too_many_is_told_when_to_come_back(signer: SessionTokenSigner) -> None:
    async with running_api(signer, max_followers=1) as api, following(api):
        answer = await api.get("/api/events")
        assert (answer.status_code, answer.json()["code"]) == (503, "too_many_followers")
        assert answer.headers["Retry-After"] == "5"


async def test_a_client_that_goes_away_leaves_its_place(signer: SessionTokenSigner) -> None:
    async with running_api(signer, max_followers=1, heartbeat=0.001) as api:
        async with following(api):
            assert api.registry.get_sample_value("homeport_api_event_followers") == 1
        while api.registry.get_sample_value("homeport_api_event_followers"):
            await asyncio.sleep(0)


async def test_a_client_that_does_not_read_is_cut_off_and_nobody_else_notices(signer: SessionTokenSigner) -> None:
    async with running_api(signer, max_waiting=64) as api, following(api) as quick:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {ADMIN.reveal()}\r\n\r\n".encode())
        await reader.readuntil(b"retry: 2000")
        assert api.registry.get_sample_value("homeport_api_event_followers") == 2
        number = 0
        while api.registry.get_sample_value("homeport_api_event_followers_cut_total") == 0:
            number += 1
            api.hub.session_changed(event(number))
            assert (await quick.part()).startswith(f"id: r-{number}\n")
            assert number < 100_000
        received = await read_to_end(reader)
        assert received.count(b"\n\n") < number, "it was sent less than there was"
        writer.close()
