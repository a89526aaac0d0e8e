"""Requests that two readers could understand differently. Each is refused with 400 before a byte of it reaches a
service, and the connection ends, because nobody knows where the next request begins.
"""

from __future__ import annotations

import pytest

from tests.api_server.gateway.stage import BEARER, Stage, answering, ok
from tests.api_server.relay.fake_relay import ServiceSide

pytestmark = pytest.mark.anyio

HEAD = f"POST /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n{BEARER}"
SMUGGLED = "GET /d/home/cam/web/smuggled HTTP/1.1\r\nHost: gw\r\n\r\n"

REFUSED = {
    # Content-Length: RFC 9112 section 6.3, case 5; RFC 9110 section 8.6
    "two lengths that differ": HEAD + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two lengths that agree": HEAD + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": HEAD + "Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": HEAD + "Content-Length: +5\r\n\r\nhello",
    "a negative length": HEAD + "Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal": HEAD + "Content-Length: 0x5\r\n\r\nhello",
    "a length with a fraction": HEAD + "Content-Length: 5.0\r\n\r\nhello",
    "a length with an underscore": HEAD + "Content-Length: 1_0\r\n\r\nhello12345",
    "a length in other digits": HEAD + "Content-Length: \xb2\r\n\r\nhello",
    "an empty length": HEAD + "Content-Length: \r\n\r\nhello",
    "a length of more than 63 bits": HEAD + "Content-Length: 99999999999999999999\r\n\r\nhello",
    "a length that wraps around": HEAD + "Content-Length: 18446744073709551621\r\n\r\nhello",
    "a length with a blank in it": HEAD + "Content-Length: 5 5\r\n\r\nhello",
    "a length behind a vertical tab": HEAD + "Content-Length:\x0b5\r\n\r\nhello",
    # Transfer-Encoding: RFC 9112 sections 6.1 and 6.3
    "length and chunks": HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks twice": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in chunks": HEAD + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks behind another coding": HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": HEAD + "Transfer-Encoding: identity\r\n\r\n",
    "identity beside chunks": HEAD + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an empty coding": HEAD + "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "a quoted coding": HEAD + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a coding behind a vertical tab": HEAD + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding behind NUL": HEAD + "Transfer-Encoding: \0chunked\r\n\r\n0\r\n\r\n",
    "a coding with a parameter": HEAD + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace("HTTP/1.1", "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Lines: RFC 9112 sections 2.2, 5.1 and 5.2
    "bare LF behind the request line": HEAD.replace("HTTP/1.1\r\n", "HTTP/1.1\n") + "\r\n",
    "bare LF behind a field": HEAD + "X-A: b\nContent-Length: 5\r\n\r\nhello",
    "bare LF at the end of the head": HEAD + "X-A: b\r\n\n" + SMUGGLED,
    "bare LF throughout": HEAD.replace("\r\n", "\n") + "\n",
    "bare CR behind a field": HEAD + "X-A: b\rContent-Length: 5\r\n\r\nhello",
    "bare CR in a value": HEAD + "X-A: b\rc\r\n\r\n",
    "bare CR throughout": HEAD.replace("\r\n", "\r") + "\r",
    "a folded field": HEAD + "X-A: b\r\n Content-Length: 5\r\n\r\nhello",
    "a field folded by a tab": HEAD + "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": HEAD + "Content-Length : 5\r\n\r\nhello",
    "a tab before the colon": HEAD + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the first field": f"POST / HTTP/1.1\r\n Host: gw\r\n{BEARER}\r\n",
    "a field without a colon": HEAD + "Content-Length 5\r\n\r\nhello",
    "a field without a name": HEAD + ": 5\r\n\r\nhello",
    "a name with a blank in it": HEAD + "Content Length: 5\r\n\r\nhello",
    "a name with a bracket in it": HEAD + "Content-Length(: 5\r\n\r\nhello",
    "NUL in a name": HEAD + "Content-Length\0: 5\r\n\r\nhello",
    "NUL in a value": HEAD + "X-A: b\0c\r\n\r\n",
    "a control character in a value": HEAD + "X-A: b\x01c\r\n\r\n",
    "DEL in a value": HEAD + "X-A: b\x7fc\r\n\r\n",
    # The request line: RFC 9112 section 3
    "a method in lower case": HEAD.replace("POST", "post", 1) + "\r\n",
    "a method with a bracket": HEAD.replace("POST", "PO(ST", 1) + "\r\n",
    "no method": HEAD.replace("POST ", "", 1) + "\r\n",
    "two blanks": HEAD.replace("POST ", "POST  ", 1) + "\r\n",
    "a tab for a blank": HEAD.replace("POST ", "POST\t", 1) + "\r\n",
    "a blank in the target": HEAD.replace("/web/", "/web/a b", 1) + "\r\n",
    "a control character in the target": HEAD.replace("/web/", "/web/\x01", 1) + "\r\n",
    "no version": HEAD.replace(" HTTP/1.1", "", 1) + "\r\n",
    "HTTP/0.9": "GET /d/home/cam/web/\r\n",
    "HTTP/1.2": HEAD.replace("HTTP/1.1", "HTTP/1.2") + "\r\n",
    "HTTP/2.0": HEAD.replace("HTTP/1.1", "HTTP/2.0") + "\r\n",
    "HTTP/1.10": HEAD.replace("HTTP/1.1", "HTTP/1.10") + "\r\n",
    "HTTP in lower case": HEAD.replace("HTTP/1.1", "http/1.1") + "\r\n",
    "RTSP": HEAD.replace("HTTP/1.1", "RTSP/1.0") + "\r\n",
    "a blank behind the version": HEAD.replace("HTTP/1.1", "HTTP/1.1 ") + "\r\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": "CONNECT cam:443 HTTP/1.1\r\nHost: cam:443\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    # Host: RFC 9112 section 3.2
    "no host": f"POST /d/home/cam/web/ HTTP/1.1\r\n{BEARER}\r\n",
    "two hosts": HEAD + "Host: other\r\n\r\n",
    "an empty host": HEAD.replace("Host: gw", "Host:") + "\r\n",
    "a host with a path": HEAD.replace("Host: gw", "Host: gw/d") + "\r\n",
    "a host with a user": HEAD.replace("Host: gw", "Host: me@gw") + "\r\n",
    "a host with a blank": HEAD.replace("Host: gw", "Host: gw other") + "\r\n",
    "two hosts in one": HEAD.replace("Host: gw", "Host: gw, other") + "\r\n",
    # Connection: RFC 9110 section 7.6.1
    "a connection that names the length": HEAD + "Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    "a connection that names the coding": HEAD + "Connection: transfer-encoding\r\n\r\n",
    "a connection that names the host": HEAD + "Connection: close, host\r\n\r\n",
}
"""Heads."""

CHUNKS = HEAD + "Transfer-Encoding: chunked\r\n\r\n"

REFUSED_BODIES = {
    # RFC 9112 section 7.1
    "no size": CHUNKS + "\r\nhello\r\n0\r\n\r\n",
    "a size that is none": CHUNKS + "xyz\r\nhello\r\n0\r\n\r\n",
    "a size with a sign": CHUNKS + "+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": CHUNKS + "-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": CHUNKS + "0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": CHUNKS + "1_0\r\nhello\r\n0\r\n\r\n",
    "a blank before the size": CHUNKS + " 5\r\nhello\r\n0\r\n\r\n",
    "a blank behind the size": CHUNKS + "5 \r\nhello\r\n0\r\n\r\n",
    "a size of 64 bits": CHUNKS + "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size of a hundred digits": CHUNKS + "0" * 99 + "5\r\nhello\r\n0\r\n\r\n",
    "bare LF behind the size": CHUNKS + "5\nhello\r\n0\r\n\r\n",
    "bare CR behind the size": CHUNKS + "5\rhello\r\n0\r\n\r\n",
    "bare LF in an extension": CHUNKS + "5;\n\r\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": CHUNKS + "5;a\r\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": CHUNKS + "5;a\0b\r\nhello\r\n0\r\n\r\n",
    "an extension without a semicolon": CHUNKS + "5 a=b\r\nhello\r\n0\r\n\r\n",
    "an extension without an end": CHUNKS + "5;" + "a" * 5000,
    "a chunk that is longer than its size": CHUNKS + "4\r\nhello\r\n0\r\n\r\n",
    "a chunk that is shorter than its size": CHUNKS + "6\r\nhello\r\n0\r\n\r\n",
    "bare LF behind a chunk": CHUNKS + "5\r\nhello\n0\r\n\r\n",
    "nothing behind a chunk": CHUNKS + "5\r\nhello0\r\n\r\n",
    "a trailer without a colon": CHUNKS + "0\r\nContent-Length 5\r\n\r\n",
    "a folded trailer": CHUNKS + "0\r\nX-A: b\r\n c\r\n\r\n",
    "bare LF in the trailers": CHUNKS + "0\r\nX-A: b\n\r\n",
    "a blank before a trailer's colon": CHUNKS + "0\r\nX-A : b\r\n\r\n",
    "trailers without an end": CHUNKS + "0\r\n" + "X-A: b\r\n" * 5000,
}
"""Bodies. Their heads are right and have gone to the service, which must not take what came for the whole."""


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
async def test_a_head_that_is_ambiguous_is_refused(request_: str) -> None:
    async with Stage(web=answering(ok())) as stage:
        client = await stage.connect()
        await client.send(request_)
        reply = await client.reply()
        assert (reply.status, reply.code, reply["Connection"]) == (400, "bad_request", "close")
        assert await client.closed()
        assert stage.relay.opens == []


async def test_they_are_refused_just_the_same_when_good_ones_came_before() -> None:
    async with Stage(web=answering(ok())) as stage:
        for name, request in REFUSED.items():
            client = await stage.connect()
            good = f"GET /d/home/cam/web/ HTTP/1.1\r\nHost: gw\r\n{BEARER}\r\n"
            await client.send(good + good + request)
            assert (await client.reply()).status == 200, name
            assert (await client.reply()).status == 200, name
            assert (await client.reply()).code == "bad_request", name
            assert await client.closed(), name


@pytest.mark.parametrize("request_", REFUSED_BODIES.values(), ids=REFUSED_BODIES.keys())
async def test_a_body_that_is_ambiguous_is_refused_and_its_stream_reset(request_: str) -> None:
    ends: list[bool] = []

    async def sink(side: ServiceSide) -> None:
        ends.append(await side.was_reset())

    async with Stage(web=sink) as stage:
        client = await stage.connect()
        await client.send(request_)
        reply = await client.reply()
        assert (reply.status, reply.code, reply["Connection"]) == (400, "bad_request", "close")
        await stage.until(lambda: len(ends) == 1)
        assert ends == [True]
        client.end()
        assert await client.closed()


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) + len(REFUSED_BODIES) >= 100
