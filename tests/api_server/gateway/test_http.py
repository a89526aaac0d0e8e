"""HTTP/1.1 through the gateway, from a client's socket to a service's and back."""

from __future__ import annotations

import asyncio

import pytest

from tests.api_server.gateway.stage import BEARER, Stage, answering, ok, request_head
from tests.api_server.relay.fake_relay import ServiceSide, read_request

pytestmark = pytest.mark.anyio


class Seen:
    """A service that keeps the heads that it gets, and gives one response to each."""

    def __init__(self, response: bytes | None = None) -> None:
        self.response = response if response is not None else ok()
        self.heads: list[bytes] = []
        self.streams = 0

    async def __call__(self, side: ServiceSide) -> None:
        self.streams += 1
        while True:
            self.heads.append(await side.read_head())
            await side.send(self.response)


async def test_a_request_reaches_the_service_and_its_response_the_client() -> None:
    seen = Seen(ok(b"a page", headers='Content-Type: text/html\r\nETag: "x"\r\n'))
    async with Stage(web=seen) as stage:
        client = await stage.connect()
        reply = await client.get("/pages/one?lang=de&x=%2F", headers="Accept: text/html\r\n")
        assert reply.status == 200
        assert reply.body == b"a page"
        assert reply["Content-Type"] == "text/html"
        assert reply["ETag"] == '"x"'
        assert reply["Connection"] is None
        method, target, headers = read_request(seen.heads[0])
        assert (method, target) == ("GET", "/pages/one?lang=de&x=%2F")
        assert headers["accept"] == "text/html"
        assert headers["host"] == "gw"
        assert headers["x-forwarded-prefix"] == "/d/home/cam/web"


async def test_the_open_names_team_service_and_epoch() -> None:
    async with Stage(web=answering(ok())) as stage:
        client = await stage.connect()
        await client.get()
        opened = stage.relay.opens[0]
        assert opened["homeport-team"] == "home"
        assert opened["homeport-service"] == "web"
        assert opened["homeport-epoch"] == str(stage.cam.epoch)
        assert opened["homeport-timeout"] == "10"


async def test_a_connection_carries_many_requests_and_the_service_keeps_its_own() -> None:
    seen = Seen()
    async with Stage(web=seen) as stage:
        client = await stage.connect()
        for number in range(20):
            reply = await client.get(f"/{number}")
            assert reply.body == b"hello"
        assert [read_request(head)[1] for head in seen.heads] == [f"/{number}" for number in range(20)]
        assert seen.streams == 1
        assert stage.pool.statistics().reused == 19


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def number(side: ServiceSide) -> None:
        while True:
            path = read_request(await side.read_head())[1]
            await side.send(ok(path.encode()))

    async with Stage(web=number) as stage:
        client = await stage.connect()
        await client.send("".join(f"GET /d/home/cam/web/{i} HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n" for i in range(50)))
        bodies = [(await client.reply()).body for _ in range(50)]
        assert bodies == [b"/%d" % i for i in range(50)]


async def test_a_refused_request_does_not_disturb_the_ones_around_it() -> None:
    async with Stage(web=answering(ok())) as stage:
        client = await stage.connect()
        good = request_head()
        bad = "GET /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n\r\n"
        await client.send(good + bad + good + bad + good)
        assert [(await client.reply()).status for _ in range(5)] == [200, 401, 200, 401, 200]


async def test_pipelined_requests_are_read_ahead_up_to_a_bound() -> None:
    answer = asyncio.Event()

    async def slow(side: ServiceSide) -> None:
        while True:
            await side.read_head()
            await answer.wait()
            await side.send(ok())

    async with Stage(web=slow) as stage:
        client = await stage.connect()
        request = f"GET /d/home/cam/web/{'x' * 1000} HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n".encode()
        count = 20_000
        writing = asyncio.ensure_future(client.send(*[request * 100] * (count // 100)))
        await stage.relay.wait_opens(1)
        # 20 MB are offered; what the gateway holds of them is its bound and one read.
        await stage.until(lambda: stage.gateway.statistics().held > stage.limits.max_ahead_bytes)
        await stage.turn()
        assert stage.gateway.statistics().held <= stage.limits.max_ahead_bytes + 256 * 1024
        answer.set()
        for _ in range(count):
            assert (await client.reply()).status == 200
        await writing


async def test_a_chunked_upload_keeps_its_bytes_and_its_trailers() -> None:
    got = bytearray()

    async def sink(side: ServiceSide) -> None:
        await side.read_head()
        got.extend(await side.reader.readuntil(b"\r\n\r\n"))
        await side.send(ok())

    async with Stage(web=sink) as stage:
        client = await stage.connect()
        await client.send(
            request_head("POST", "/up", "Transfer-Encoding: chunked\r\nTrailer: Digest\r\n"),
            "5\r\nhel",
            "lo\r\n3;ext=1\r\nabc\r\n",
            "0\r\nDigest: sha\r\nX-Homeport-User: root\r\n\r\n",
        )
        assert (await client.reply()).status == 200
        assert bytes(got) == b"5\r\nhello\r\n3\r\nabc\r\n0\r\nDigest: sha\r\n\r\n"


async def test_a_chunked_response_keeps_its_chunks_and_trailers() -> None:
    body = b"4\r\nwiki\r\n6\r\npedia \r\n0\r\nDigest: sha\r\n\r\n"
    service = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n" + body)
    async with Stage(web=service) as stage:
        client = await stage.connect()
        for _ in range(3):
            reply = await client.get()
            assert reply.body == b"wikipedia "
            assert reply.trailers == [("Digest", "sha")]
        assert stage.pool.statistics().reused == 2


@pytest.mark.parametrize("size", [0, 1, 300_000, 20_000_000])
async def test_a_body_of_known_length_passes_both_ways(size: int) -> None:
    async def echo(side: ServiceSide) -> None:
        while True:
            length = int(read_request(await side.read_head())[2]["content-length"])
            body = await side.read(length)
            await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body)

    body = bytes(i * 7 & 0xFF for i in range(256)) * (size // 256 + 1)
    body = body[:size]
    async with Stage(web=echo) as stage:
        client = await stage.connect()
        for _ in range(2):
            reply = await client.request("PUT", "/file", body)
            assert reply.complete
            assert reply.body == body


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_responses_without_a_body_leave_the_connection_usable(method: str, response: bytes) -> None:
    async with Stage(web=answering(response)) as stage:
        client = await stage.connect()
        for _ in range(3):
            head = f"{method} /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n"
            await client.send(head)
            reply = await client.reply(head_only=True)
            assert reply.status == int(response.split(b" ")[1])
        assert stage.pool.statistics().reused == 2


async def test_a_204_is_passed_on_without_a_length() -> None:
    async with Stage(web=answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")) as stage:
        client = await stage.connect()
        reply = await client.get()
        assert reply["Content-Length"] is None


async def test_head_keeps_the_length_of_the_body_that_get_would_have() -> None:
    async with Stage(web=answering(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")) as stage:
        client = await stage.connect()
        reply = await client.request("HEAD")
        assert reply["Content-Length"] == "12345"


async def test_informational_responses_are_passed_on_before_the_final_one() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    async with Stage(web=answering(hints + hints + ok(), ok())) as stage:
        client = await stage.connect()
        await client.send(request_head())
        for _ in range(2):
            early = await client.head()
            assert early.status == 103
            assert early["Link"] == "</style.css>; rel=preload"
        assert (await client.reply()).body == b"hello"
        assert (await client.get()).body == b"hello"


async def test_expect_continue_is_the_services_affair() -> None:
    asked = asyncio.Event()
    allow = asyncio.Event()

    async def careful(side: ServiceSide) -> None:
        headers = read_request(await side.read_head())[2]
        assert headers["expect"] == "100-continue"
        asked.set()
        await allow.wait()
        await side.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await side.read(int(headers["content-length"]))
        await side.send(ok(body.upper()))

    async with Stage(web=careful) as stage:
        client = await stage.connect()
        await client.send(request_head("POST", headers="Expect: 100-continue\r\nContent-Length: 4\r\n"))
        await asked.wait()
        allow.set()
        assert (await client.head()).status == 100
        await client.send(b"body")
        assert (await client.reply()).body == b"BODY"


async def test_a_service_may_refuse_what_it_was_asked_to_expect() -> None:
    async with Stage(web=answering(b"")) as stage:
        stage.cam.services["web"] = _refuse_expectation
        client = await stage.connect()
        await client.send(request_head("POST", headers="Expect: 100-continue\r\nContent-Length: 9999\r\n"))
        reply = await client.reply()
        assert reply.status == 413
        # The body may or may not come: the connection cannot go on.
        assert reply["Connection"] == "close"
        assert await client.closed()


async def _refuse_expectation(side: ServiceSide) -> None:
    await side.read_head()
    await side.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    await side.was_reset()


async def test_events_are_not_held_back() -> None:
    go = asyncio.Queue[bytes]()

    async def events(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await side.send(await go.get())

    async with Stage(web=events) as stage:
        client = await stage.connect()
        await client.send(request_head())
        assert (await client.head()).status == 200
        for number in range(5):
            chunk = b"9\r\ndata: %d\n\n\r\n" % number
            go.put_nowait(chunk)
            assert await client.read(len(chunk)) == chunk


async def test_a_response_without_a_length_ends_with_the_connection() -> None:
    async def old(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(b"HTTP/1.0 200 OK\r\n\r\n", b"until ", b"the end")
        side.end()
        await side.read_to_end()

    async with Stage(web=old) as stage:
        client = await stage.connect()
        reply = await client.get()
        assert reply["Connection"] == "close"
        assert reply.body == b"until the end"
        assert reply.complete


async def test_a_service_that_closes_after_each_response_is_dialled_anew() -> None:
    streams = 0

    async def closing(side: ServiceSide) -> None:
        nonlocal streams
        streams += 1
        await side.read_head()
        await side.send(ok(headers="Connection: close\r\n"))
        side.end()
        assert await side.read_to_end() == b""

    async with Stage(web=closing) as stage:
        client = await stage.connect()
        for _ in range(3):
            reply = await client.get()
            assert reply.body == b"hello"
            assert reply["Connection"] is None
        assert streams == 3


async def test_connection_close_ends_the_clients_connection_and_not_the_services() -> None:
    seen = Seen()
    async with Stage(web=seen) as stage:
        for _ in range(3):
            client = await stage.connect()
            reply = await client.get(headers="Connection: close\r\n")
            assert reply["Connection"] == "close"
            assert await client.closed()
        assert seen.streams == 1
        assert all("connection" not in read_request(head)[2] for head in seen.heads)


class TestHttp10:
    async def test_a_client_gets_its_answer_and_the_end(self) -> None:
        seen = Seen()
        async with Stage(web=seen) as stage:
            client = await stage.connect()
            await client.send(f"GET /d/home/cam/web/ HTTP/1.0\r\n{BEARER}\r\n")
            reply = await client.reply()
            assert reply.body == b"hello"
            assert reply["Connection"] == "close"
            assert await client.closed()
            assert read_request(seen.heads[0])[2]["host"] == f"127.0.0.1:{stage.port}"
            assert seen.heads[0].startswith(b"GET / HTTP/1.1\r\n")

    async def test_a_client_that_asks_to_keep_the_connection_does(self) -> None:
        async with Stage(web=answering(ok())) as stage:
            client = await stage.connect()
            for _ in range(3):
                await client.send(f"GET /d/home/cam/web/ HTTP/1.0\r\nConnection: keep-alive\r\n{BEARER}\r\n")
                reply = await client.reply()
                assert reply.body == b"hello"
                assert reply["Connection"] == "keep-alive"

    async def test_chunks_are_taken_off_for_it(self) -> None:
        response = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n5\r\npedia\r\n0\r\nDigest: x\r\n\r\n"
        )
        async with Stage(web=answering(response)) as stage:
            client = await stage.connect()
            await client.send(f"GET /d/home/cam/web/ HTTP/1.0\r\nConnection: keep-alive\r\n{BEARER}\r\n")
            reply = await client.reply()
            assert reply["Transfer-Encoding"] is None
            assert reply["Connection"] == "close"
            assert reply.body == b"wikipedia"
            assert reply.complete

    async def test_it_gets_no_informational_response(self) -> None:
        async with Stage(web=answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok())) as stage:
            client = await stage.connect()
            await client.send(f"GET /d/home/cam/web/ HTTP/1.0\r\n{BEARER}\r\n")
            assert (await client.reply()).status == 200

    async def test_its_expectation_is_ignored(self) -> None:
        seen = Seen()
        async with Stage(web=seen) as stage:
            client = await stage.connect()
            await client.send(f"GET /d/home/cam/web/ HTTP/1.0\r\nExpect: 100-continue\r\n{BEARER}\r\n")
            assert (await client.reply()).status == 200
            assert b"Expect" not in seen.heads[0]


async def test_an_absolute_target_is_served_by_its_own_host() -> None:
    seen = Seen()
    async with Stage(web=seen) as stage:
        client = await stage.connect()
        await client.send(f"GET http://other:81/d/home/cam/web/x HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n")
        assert (await client.reply()).status == 200
        _, target, headers = read_request(seen.heads[0])
        assert target == "/x"
        assert headers["host"] == headers["x-forwarded-host"] == "other:81"


async def test_a_service_by_host_has_the_whole_path() -> None:
    seen = Seen()
    async with Stage(web=seen, domain="devices.example") as stage:
        client = await stage.connect()
        await client.send(f"GET /d/x?y HTTP/1.1\r\nHost: web--cam--home.Devices.example:81\r\n{BEARER}\r\n")
        assert (await client.reply()).status == 200
        _, target, headers = read_request(seen.heads[0])
        assert target == "/d/x?y"
        assert "x-forwarded-prefix" not in headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_service_without_a_slash_is_redirected_so_that_relative_links_work(method: str) -> None:
    async with Stage(web=answering(ok())) as stage:
        client = await stage.connect()
        await client.send(f"{method} /d/home/cam/web?a=b HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n")
        reply = await client.reply(head_only=method == "HEAD")
        assert (reply.status, reply["Location"]) == (308, "/d/home/cam/web/?a=b")
        assert (await client.get()).status == 200


async def test_other_methods_without_a_slash_are_served() -> None:
    seen = Seen()
    async with Stage(web=seen) as stage:
        client = await stage.connect()
        await client.send(f"POST /d/home/cam/web HTTP/1.1\r\nHost: gw\r\n{BEARER}Content-Length: 0\r\n\r\n")
        assert (await client.reply()).status == 200
        assert seen.heads[0].startswith(b"POST / HTTP/1.1\r\n")


async def test_empty_lines_before_a_request_are_ignored() -> None:
    async with Stage(web=answering(ok())) as stage:
        client = await stage.connect()
        await client.send("\r\n\r\n", "\r", "\n")
        assert (await client.get()).status == 200
        await client.send("\r\n")
        assert (await client.get()).status == 200


async def test_methods_that_the_gateway_does_not_know_are_the_services_affair() -> None:
    seen = Seen()
    async with Stage(web=seen) as stage:
        client = await stage.connect()
        await client.send(request_head("BREW", "/"))
        assert (await client.reply()).status == 200
        assert seen.heads[0].startswith(b"BREW / HTTP/1.1\r\n")


async def test_a_response_without_a_date_gets_one() -> None:
    async with Stage(web=answering(ok(), ok(headers="Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"))) as stage:
        client = await stage.connect()
        assert (await client.get())["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        stage.clock.advance(10)
        assert (await client.get())["Date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
