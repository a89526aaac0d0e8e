"""The relay as a bus: what one API server posts is on the feed of all who ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import SystemClock
from remote_proxy.errors import BadRequestError
from remote_proxy.events import EventRing
from remote_proxy.internal.codec import JSON, MSGPACK, decode
from remote_proxy.internal.notices import MAX_DATA, MAX_ITEMS, NoticeList, post
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.internal.test_api import http
from tests.remote_proxy.internal.test_feed import feed

pytestmark = pytest.mark.anyio

GOOD = {"type": "changed.tokens", "team": "home", "subject": "tok_1", "data": {"generation": 7}}


async def tell(relay: RunningRelay, *items: dict[str, Any], packed: bool = True) -> int:
    """Post notices; how many were taken."""
    body = msgpack.packb({"items": items}) if packed else json.dumps({"items": items}).encode()
    async with http(relay) as client:
        answer = await client.post(
            "/internal/notices", content=body, headers={"Content-Type": MSGPACK if packed else JSON}
        )
        assert answer.status_code == 200, answer.text
        return int(answer.json()["posted"])


@pytest.mark.parametrize("packed", [True, False])
async def test_a_notice_reaches_who_asks_for_it(relay: RunningRelay, packed: bool) -> None:
    async with feed(relay, notices=True) as one, feed(relay, notices=True) as two:
        await one.block()
        await two.block()
        assert await tell(relay, GOOD, {"type": "changed.routes"}, packed=packed) == 2
        for reader in (one, two):
            block = await reader.block()
            assert block.event == "notice"
            assert block.data is not None
            assert {key: block.data[key] for key in GOOD} == GOOD
            assert block.id == block.data["id"]
            assert block.data["time"] > 0
            bare = (await reader.block()).data
            assert bare is not None
            assert (bare["team"], bare["subject"], bare["data"]) == (None, "", {})


async def test_to_a_reader_that_does_not_ask_a_notice_is_an_id_alone(relay: RunningRelay) -> None:
    """An API server from before there were notices would break off, again and again."""
    async with feed(relay) as reader:
        await reader.block()
        await tell(relay, GOOD)
        block = await reader.block()
        assert (block.event, block.data) == (None, None)
        assert block.id == relay.relay.events.id_of(1)
        await relay.attach("cam")
        assert (await reader.event())["type"] == "session.online"


async def test_a_reader_that_comes_back_gets_the_notices_that_it_missed(relay: RunningRelay) -> None:
    await tell(relay, GOOD)
    async with feed(relay, relay.relay.events.id_of(0), notices=True) as reader:
        assert (await reader.block()).event == "notice"


async def test_notices_and_sessions_share_one_bounded_ring(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_events=10) as relay:
        for _ in range(3):
            await tell(relay, *[GOOD] * 10)
        assert relay.relay.events.last == 30
        assert len(relay.relay.events.after(20, limit=100)) == 10
        async with feed(relay, relay.relay.events.id_of(5), notices=True) as reader:
            assert (await reader.block()).event == "reset"


HOSTILE: list[object] = [
    None,
    [],
    {},
    {"items": None},
    {"items": {}},
    {"items": [7]},
    {"items": [GOOD | {"type": ""}]},
    {"items": [GOOD | {"type": "a\nevent: reset"}]},
    {"items": [GOOD | {"type": "Changed"}]},
    {"items": [GOOD | {"type": "a" * 65}]},
    {"items": [GOOD | {"type": 7}]},
    {"items": [GOOD | {"team": "No Name"}]},
    {"items": [GOOD | {"team": ""}]},
    {"items": [GOOD | {"team": 7}]},
    {"items": [GOOD | {"subject": "x" * 129}]},
    {"items": [GOOD | {"subject": "a\nb"}]},
    {"items": [GOOD | {"subject": "a\0b"}]},
    {"items": [GOOD | {"data": []}]},
    {"items": [GOOD | {"data": {"x": "y" * MAX_DATA}}]},
    {"items": [GOOD] * (MAX_ITEMS + 1)},
    {"items": [GOOD, GOOD | {"type": "?"}]},
]


@pytest.mark.parametrize("content_type", [MSGPACK, JSON])
@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_body_that_is_no_list_of_notices_is_refused_and_nothing_of_it_is_taken(
    relay: RunningRelay, body: object, content_type: str
) -> None:
    async with http(relay) as client:
        encoded = msgpack.packb(body) if content_type == MSGPACK else json.dumps(body).encode()
        answer = await client.post("/internal/notices", content=encoded, headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert relay.relay.events.last == 0


@pytest.mark.parametrize(
    "body",
    [
        msgpack.packb({"items": [GOOD | {"data": {"x": msgpack.Timestamp(1)}}]}),
        msgpack.packb({"items": [GOOD]})[:-1],
        msgpack.packb({"items": [GOOD]}) + b"x",
        b"\x91" * 5000,
        b"\xdf\xff\xff\xff\xff",
        b"\xc1",
        b"",
    ],
    ids=range(7),
)
async def test_msgpack_that_json_cannot_say_is_refused(relay: RunningRelay, body: bytes) -> None:
    async with http(relay) as client:
        answer = await client.post("/internal/notices", content=body, headers={"Content-Type": MSGPACK})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("content_type", [MSGPACK, JSON])
async def test_data_that_is_nested_deeply_is_refused(relay: RunningRelay, content_type: str) -> None:
    head, tail = '{"items":[{"type":"a","data":{"x":', "}}]}"
    deep = head + "[" * 100_000 + "]" * 100_000 + tail
    packed = b"\x81\xa5items\x91\x82\xa4type\xa1a\xa4data\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"
    async with http(relay) as client:
        answer = await client.post(
            "/internal/notices",
            content=deep.encode() if content_type == JSON else packed,
            headers={"Content-Type": content_type},
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@given(body=st.binary(max_size=200), content_type=st.sampled_from([MSGPACK, JSON]))
def test_no_body_does_anything_else(body: bytes, content_type: str) -> None:
    ring = EventRing("abcd", size=4, clock=SystemClock())
    try:
        post(ring, decode(body, content_type, NoticeList).items)
    except BadRequestError:
        assert ring.last == 0
