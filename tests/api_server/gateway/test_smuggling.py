"""G4: requests that two readers could understand differently. Each is refused with 400 before a byte of it reaches a
service or backend, and the connection ends, because nobody knows where the next request begins.
"""

from __future__ import annotations

import pytest

from tests.api_server.gateway.kinds import Kind, stage_of
from tests.api_server.gateway.stage import BEARER, answering, ok
from tests.api_server.relay.fake_relay import ServiceSide
from tests.stack.certificates import Certificate, make_certificate

pytestmark = pytest.mark.anyio

DEVICE = "/d/home/cam/web"

HEAD = f"POST {DEVICE}/ HTTP/1.1\r\nHost: gw\r\n{BEARER}"
SMUGGLED = f"GET {DEVICE}/smuggled HTTP/1.1\r\nHost: gw\r\n\r\n"

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
    "a length of which one is spelled otherwise": HEAD + "content-length: 5\r\nCONTENT-LENGTH: 6\r\n\r\nhello",
    "a length behind two colons": HEAD + "Content-Length:: 5\r\n\r\nhello",
    "a length with a comment": HEAD + "Content-Length: 5 (five)\r\n\r\nhello",
    "a quoted length": HEAD + 'Content-Length: "5"\r\n\r\nhello',
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
    "chunks beside nonsense": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "nonsense beside chunks": HEAD + "Transfer-Encoding: x\r\nTransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding behind two colons": HEAD + "Transfer-Encoding:: chunked\r\n\r\n0\r\n\r\n",
    "chunks with a comma": HEAD + "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "chunks with a comma behind": HEAD + "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "a coding in front of a vertical tab": HEAD + "Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n",
    "a coding behind a hard blank": HEAD + "\xa0Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length and chunks, folded": HEAD + "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a quoted coding": HEAD + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a coding behind a vertical tab": HEAD + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding behind NUL": HEAD + "Transfer-Encoding: \0chunked\r\n\r\n0\r\n\r\n",
    "a coding with a parameter": HEAD + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace("HTTP/1.1", "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Lines: RFC 9112 sections 2.2, 5.1 and 5.2
    "bare LF behind the request line": HEAD.replace("HTTP/1.1\r\n", "HTTP/1.1\n") + "\r\n",
    "bare LF before the request line": "\n" + HEAD + "\r\n",
    "bare LF at the end of a value": HEAD + "X-A: b\n\r\n\r\n",
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
    "an empty line between chunks": CHUNKS + "5\r\nhello\r\n\r\n0\r\n\r\n",
    "a tab behind the size": CHUNKS + "5\t\r\nhello\r\n0\r\n\r\n",
    "a size in other digits": CHUNKS + "\xb2\r\nhello\r\n0\r\n\r\n",
    "a negative end": CHUNKS + "-0\r\n\r\n",
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


KIND: tuple[Kind, ...] = ("device", "http")
"""TLS changes nothing about what is in it."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("smuggling"))


@pytest.mark.parametrize("kind", KIND)
@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
async def test_a_head_that_is_ambiguous_is_refused(request_: str, kind: Kind, certificate: Certificate) -> None:
    heads: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        heads.append(await side.read_head())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(request_.replace(DEVICE, stage.base))
        reply = await client.reply()
        assert (reply.status, reply.code, reply["Connection"]) == (400, "bad_request", "close")
        assert await client.closed()
        assert stage.opened == 0
        assert heads == []


@pytest.mark.parametrize("kind", KIND)
async def test_they_are_refused_just_the_same_when_good_ones_came_before(kind: Kind, certificate: Certificate) -> None:
    async with stage_of(kind, answering(ok()), certificate) as stage:
        for name, request in REFUSED.items():
            client = await stage.connect()
            await client.send(stage.head() * 2 + request.replace(DEVICE, stage.base))
            assert (await client.reply()).status == 200, name
            assert (await client.reply()).status == 200, name
            assert (await client.reply()).code == "bad_request", name
            assert await client.closed(), name


@pytest.mark.parametrize("kind", KIND)
@pytest.mark.parametrize("request_", REFUSED_BODIES.values(), ids=REFUSED_BODIES.keys())
async def test_a_body_that_is_ambiguous_is_refused_and_its_stream_reset(
    request_: str, kind: Kind, certificate: Certificate
) -> None:
    ends: list[bool] = []

    async def sink(side: ServiceSide) -> None:
        ends.append(await side.was_reset())

    async with stage_of(kind, sink, certificate) as stage:
        client = await stage.connect()
        await client.send(request_.replace(DEVICE, stage.base))
        reply = await client.reply()
        assert (reply.status, reply.code, reply["Connection"]) == (400, "bad_request", "close")
        await stage.until(lambda: len(ends) == 1)
        assert ends == [True]
        client.end()
        assert await client.closed()


HIDDEN = {
    # A service behind CGI or WSGI would take these for the fields that they resemble.
    "a length with an underscore": "Content_Length: 5\r\n",
    "a coding with an underscore": "Transfer_Encoding: chunked\r\n",
    "HTTP/2 in clear": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "another path": "X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n",
}
"""Fields that mean nothing here: they are not refused, and reach nobody."""


@pytest.mark.parametrize("kind", KIND)
@pytest.mark.parametrize("field", HIDDEN.values(), ids=HIDDEN.keys())
async def test_what_means_nothing_here_reaches_nobody(field: str, kind: Kind, certificate: Certificate) -> None:
    heads: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        while True:
            heads.append(await side.read_head())
            await side.send(ok())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head("POST", headers=field) + stage.head("GET", "/second"))
        for _ in range(2):
            assert (await client.reply()).status == 200
        names = {line.partition(b":")[0].lower() for line in heads[0].split(b"\r\n")[1:]}
        sent = {line.partition(":")[0].lower().encode() for line in field.splitlines()}
        assert names.isdisjoint(sent)
        assert heads[1].startswith(b"GET /second ")


@pytest.mark.parametrize("kind", KIND)
async def test_the_host_of_an_absolute_target_is_the_only_one(kind: Kind, certificate: Certificate) -> None:
    """RFC 9112 section 3.2.2: the target stands for the Host, and the next reader sees one of them."""
    heads: list[bytes] = []

    async def serve(side: ServiceSide) -> None:
        heads.append(await side.read_head())
        await side.send(ok())

    async with stage_of(kind, serve, certificate) as stage:
        client = await stage.connect()
        await client.send(f"GET http://first{stage.base}/ HTTP/1.1\r\nHost: second\r\n{BEARER}\r\n")
        assert (await client.reply()).status == 200
        start, *lines = heads[0].split(b"\r\n")
        assert start == b"GET / HTTP/1.1"
        hosts = [line for line in lines if line.lower().startswith((b"host:", b"x-forwarded-host:"))]
        assert hosts == [
            b"Host: " + (b"first" if kind == "device" else stage.host.encode()),
            b"X-Forwarded-Host: first",
        ]


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) + len(REFUSED_BODIES) >= 120
