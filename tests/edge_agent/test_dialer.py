"""The way to the relay: tokens, TLS, proxies, refusals, and servers that are no relay."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from common.crypto.keyfiles import write_secret
from common.tunnel.handshake import Refusal
from edge_agent.errors import RelayUrlError, ServiceSpecError, TokenFileError, TrustError
from edge_agent.tls import client_context
from tests.edge_agent.certificates import Authority
from tests.edge_agent.relay import Relay, relay
from tests.edge_agent.running import TOKEN, Running, running_agent
from tests.edge_agent.services import Handler, echo, refusing_port, serve

pytestmark = pytest.mark.anyio


async def until_logged(running: Running, event: str, count: int = 1) -> dict[str, object]:
    """Wait until the agent has said `event` so often; the fields of the last time."""
    while running.log.events.count(event) < count:
        await trio.sleep(0.1)
    return running.log.fields(event)


# The token.


async def test_the_token_goes_into_one_header_and_nowhere_else(tmp_path: Path) -> None:
    head = bytearray()

    async def listen(stream: trio.SocketStream) -> None:
        while b"\r\n\r\n" not in head:
            head.extend(await stream.receive_some())

    async with serve(listen) as port, running_agent(tmp_path, f"ws://127.0.0.1:{port}/tunnel") as running:
        await until_logged(running, "cannot connect")
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /tunnel HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert "Sec-WebSocket-Protocol: homeport.v1" in lines
    assert [line for line in lines if TOKEN in line] == [f"Authorization: Bearer {TOKEN}"]
    assert "extensions" not in head.decode().lower()


async def test_a_missing_token_stops_the_start(tmp_path: Path) -> None:
    async with running_agent(tmp_path, "ws://127.0.0.1:1"):
        pass
    (tmp_path / "session-token").unlink()
    with pytest.raises(TokenFileError, match="cannot be read"):
        async with running_agent(tmp_path, "ws://127.0.0.1:1", token_file=tmp_path / "elsewhere"):
            pass


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
async def test_a_token_that_others_can_read_stops_the_start_and_says_how_to_mend_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "session-token"
    write_secret(path, TOKEN)
    path.chmod(mode)
    with pytest.raises(TokenFileError, match=f"chmod 600 {path}"):
        async with running_agent(tmp_path, "ws://127.0.0.1:1"):
            pass


@pytest.mark.parametrize(
    "text", ["one token\nand another", "token\r\nX-Evil: yes" * 2, "tökentökentökentöken", "x" * 5000]
)
async def test_a_file_that_holds_something_else_stops_the_start(tmp_path: Path, text: str) -> None:
    write_secret(tmp_path / "session-token", text)
    with pytest.raises(TokenFileError, match="something else") as caught:
        async with running_agent(tmp_path, "ws://127.0.0.1:1"):
            pass
    assert text not in str(caught.value)


async def test_a_renewed_token_is_shown_at_the_next_dial(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url()) as running:
        session = await r.session()
        write_secret(running.token_file, "the-renewed-session-token")
        assert session.tunnel is not None
        session.tunnel.close("closed_by_operator")
        await r.session(2)
        assert [request.token.reveal() for request in r.requests] == [TOKEN, "the-renewed-session-token"]


async def test_a_token_that_is_gone_later_is_waited_for(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url()) as running:
        session = await r.session()
        running.token_file.unlink()
        assert session.tunnel is not None
        session.tunnel.close("closed_by_operator")
        fields = await until_logged(running, "cannot connect", 3)
        assert fields["reason"] == "token_file"
        write_secret(running.token_file, TOKEN)
        await r.session(2)


async def test_a_token_renewed_while_the_old_one_is_refused_is_tried(tmp_path: Path) -> None:
    async with relay() as r:
        r.refusals = [Refusal(status=401, code="session_token_expired", title="Expired")]
        async with running_agent(tmp_path, r.url()) as running:
            # Between the handshake's answer and the agent's look at the file.
            await r.until(lambda: bool(r.requests))
            write_secret(running.token_file, "the-renewed-session-token")
            await r.session()
            assert r.requests[-1].token.reveal() == "the-renewed-session-token"


# What the relay answers.


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [(401, "session_token_expired", "fresh"), (401, "invalid_session_token", "issued"), (403, "revoked", "pair")],
)
async def test_a_final_refusal_ends_the_agent(tmp_path: Path, status: int, code: str, advice: str) -> None:
    async with relay() as r:
        r.refusals = [Refusal(status=status, code=code, title="No", detail="the relay's own words")]
        async with running_agent(tmp_path, r.url()) as running:
            assert await running.end() == 1
            fields = running.log.fields("giving up")
            assert (fields["reason"], fields["detail"]) == (code, "the relay's own words")
            assert advice in fields["advice"]
            assert len(r.requests) == 1


@pytest.mark.parametrize(
    ("refusal", "least", "most"),
    [
        (Refusal(status=429, code="rate_limited", title="", retry_after=20), 20, 21),
        (Refusal(status=503, code="draining", title="", retry_after=5), 5, 6),
        (Refusal(status=503, code="over_capacity", title=""), 0, 1),
        (Refusal(status=409, code="replaced", title=""), 60, 120),
        (Refusal(status=409, code="replaced", title="", retry_after=300), 300, 360),
    ],
)
async def test_a_passing_refusal_is_waited_out(tmp_path: Path, refusal: Refusal, least: float, most: float) -> None:
    async with relay() as r:
        r.refusals = [refusal]
        started = trio.current_time()
        async with running_agent(tmp_path, r.url()) as running:
            await r.session()
            assert least <= trio.current_time() - started <= most + 0.1
            assert running.log.fields("refused")["reason"] == refusal.code
            assert running.log.fields("retrying")["seconds"] >= round(least, 1)


async def test_an_agent_that_was_replaced_stays_away_and_says_so(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url()) as running:
        session = await r.session()
        started = trio.current_time()
        assert session.tunnel is not None
        session.tunnel.close("replaced")
        await r.session(2)
        assert trio.current_time() - started >= 60
        warnings = [fields for level, event, fields in running.log.lines if (level, event) == ("warning", "replaced")]
        assert len(warnings) == 1
        assert "another agent" in warnings[0]["detail"]


# Servers that are no relay, and relays that break the rules.


WRONG_KEY = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\nSec-WebSocket-Protocol: homeport.v1\r\n\r\n"
)


def answering(answer: bytes) -> Handler:
    async def handle(stream: trio.SocketStream) -> None:
        received = bytearray()
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some()
            if not data:
                return
            received += data
        await stream.send_all(answer)
        await stream.send_eof()
        async for _ in stream:
            pass

    return handle


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 302 Found\r\nLocation: ws://evil.example/tunnel\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        WRONG_KEY,
        b"HTTP/1.1 " + b"x" * 100_000,
        b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 100000000\r\n\r\n" + b"y" * 100_000,
        b"HTTP/2 200\r\n\r\n",
    ],
)
async def test_a_server_that_is_no_relay_is_tried_again_later(tmp_path: Path, answer: bytes) -> None:
    async with serve(answering(answer)) as port, running_agent(tmp_path, f"ws://127.0.0.1:{port}") as running:
        await until_logged(running, "retrying", 3)
        assert "connected" not in running.log.events
        assert running.code is None
        assert TOKEN not in repr(running.log.lines)


async def test_a_server_that_says_nothing_is_given_up_in_time(tmp_path: Path) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    async with serve(silent) as port:
        started = trio.current_time()
        async with running_agent(tmp_path, f"ws://127.0.0.1:{port}", connect_timeout=7) as running:
            await until_logged(running, "cannot connect")
            assert 7 <= trio.current_time() - started <= 7.2


async def test_nobody_listens(tmp_path: Path) -> None:
    async with running_agent(tmp_path, f"ws://127.0.0.1:{refusing_port()}") as running:
        fields = await until_logged(running, "cannot connect", 5)
        assert "refused" in str(fields["detail"])


@pytest.mark.parametrize("host", ["relay.invalid", "xn--a.example"])
async def test_a_name_that_cannot_be_resolved_is_tried_again(tmp_path: Path, host: str) -> None:
    class Nothing(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
            raise trio.socket.gaierror(trio.socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *_: object) -> tuple[str, str]:  # type: ignore[override]
            raise NotImplementedError

    before = trio.socket.set_custom_hostname_resolver(Nothing())
    try:
        async with running_agent(tmp_path, f"ws://{host}", allow_plaintext=True) as running:
            await until_logged(running, "cannot connect", 3)
    finally:
        trio.socket.set_custom_hostname_resolver(before)


async def test_a_relay_that_never_greets_is_left(tmp_path: Path) -> None:
    async with relay(greets=False) as r, running_agent(tmp_path, r.url()) as running:
        await r.session(2)
        assert running.log.fields("lost")["reason"] == "hello_timeout"


async def test_a_relay_that_accepts_and_then_drops_is_not_dialled_in_a_tight_loop(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url()) as running:
        started = trio.current_time()
        while len(r.sessions) < 12:
            session = await r.session(len(r.sessions) + 1)
            assert session.tunnel is not None
            session.tunnel.close("closed")
        assert trio.current_time() - started > 20
        assert running.log.fields("retrying")["attempt"] == 11


# TLS.


async def test_a_relay_that_proves_itself_by_the_users_authority_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        serve(echo) as port,
        relay(tls=authority.server("127.0.0.1")) as r,
        running_agent(tmp_path, r.url(), f"web=tcp://127.0.0.1:{port}", ca_file=authority.file),
    ):
        stream = await (await r.session()).open("web")
        blob = os.urandom(3_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, blob)
            assert await stream.receive(len(blob)) == blob


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["relay.example"], {}, "127.0.0.1"),
        (["localhost"], {}, "127.0.0.1"),
        (["127.0.0.1"], {"expired": True}, "expired"),
        (["127.0.0.1"], {"self_signed": True}, "self-signed"),
    ],
)
async def test_any_other_certificate_is_refused_before_the_token_is_sent(
    tmp_path: Path, names: list[str], options: dict[str, bool], says: str
) -> None:
    authority = Authority(tmp_path)
    async with (
        relay(tls=authority.server(*names, **options)) as r,
        running_agent(tmp_path, r.url(), ca_file=authority.file) as running,
    ):
        fields = await until_logged(running, "cannot connect", 2)
        assert "certificate verify failed" in str(fields["detail"])
        assert says in str(fields["detail"])
        assert r.requests == []
        assert r.tls_failures, "the relay was not told why"


async def test_another_authority_is_not_trusted(tmp_path: Path) -> None:
    theirs = Authority(tmp_path, "theirs")
    ours = Authority(tmp_path, "ours")
    async with (
        relay(tls=theirs.server("127.0.0.1")) as r,
        running_agent(tmp_path, r.url(), ca_file=ours.file) as running,
    ):
        fields = await until_logged(running, "cannot connect")
        assert "certificate verify failed" in str(fields["detail"])
        assert r.requests == []


async def test_the_systems_authorities_do_not_count_beside_the_users(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert [c["subject"] for c in client_context(authority.file).get_ca_certs()] == [
        ((("commonName", "Homeport tests"),),)
    ]


async def test_what_is_spoken_at_least() -> None:
    context = client_context(None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


async def test_a_server_without_tls_is_no_wss_relay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with relay() as r, running_agent(tmp_path, r.url().replace("ws:", "wss:"), ca_file=authority.file) as running:
        await until_logged(running, "cannot connect")
        assert r.requests == []


@pytest.mark.parametrize(("content", "says"), [(None, "cannot be read"), (b"not a certificate", "no certificates")])
async def test_an_authority_that_cannot_be_read_stops_the_start(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrustError, match=says):
        async with running_agent(tmp_path, "wss://relay.example", ca_file=path):
            pass


# What else stops the start.


async def test_what_cannot_be_understood_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(RelayUrlError, match="unencrypted"):
        async with running_agent(tmp_path, "ws://relay.example"):
            pass
    with pytest.raises(ServiceSpecError, match="NAME=URL"):
        async with running_agent(tmp_path, "wss://relay.example", "http://127.0.0.1"):
            pass


async def test_insisting_on_plaintext_is_warned_about(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url(), allow_plaintext=True) as running:
        await r.session()
        assert any(level == "warning" and "unencrypted" in event for level, event, _ in running.log.lines)


# Through a proxy.


@dataclass
class ConnectProxy:
    """A proxy that knows where `relay.test` is."""

    relay: Relay
    answer: bytes | None = None
    """Instead of connecting; b"" to hang."""
    port: int = 0
    heads: list[str] = field(default_factory=list)

    async def handle(self, stream: trio.SocketStream) -> None:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some()
            if not data:
                return
            head += data
        self.heads.append(head.decode())
        if self.answer is not None:
            if not self.answer:
                await trio.sleep_forever()
            await stream.send_all(self.answer)
            return
        assert head.startswith(b"CONNECT relay.test:%d HTTP/1.1\r\n" % self.relay.port)
        async with await trio.open_tcp_stream("127.0.0.1", self.relay.port) as upstream:
            await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, stream, upstream, nursery)
                nursery.start_soon(self._copy, upstream, stream, nursery)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
        async for data in source:
            await sink.send_all(data)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def proxied(r: Relay, answer: bytes | None = None) -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy(r, answer)
    async with serve(proxy.handle) as proxy.port:
        yield proxy


@pytest.mark.parametrize("userinfo", ["", "me:hunter2@"])
async def test_the_proxy_of_the_environment_is_used(tmp_path: Path, userinfo: str) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        proxied(r) as proxy,
        running_agent(
            tmp_path,
            f"ws://relay.test:{r.port}/tunnel",
            f"web=tcp://127.0.0.1:{port}",
            allow_plaintext=True,
            environ={"HTTP_PROXY": f"http://{userinfo}127.0.0.1:{proxy.port}"},
        ) as running,
    ):
        stream = await (await r.session()).open("web")
        stream.write(b"through the proxy")
        assert await stream.receive(17) == b"through the proxy"
        assert TOKEN not in proxy.heads[0]
        assert ("Proxy-Authorization: Basic bWU6aHVudGVyMg==" in proxy.heads[0]) == bool(userinfo)
        assert "hunter2" not in repr(running.log.lines)
        assert "bWU6aHVudGVyMg" not in repr(running.log.lines)


async def test_tls_goes_through_the_proxy_to_the_relay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        relay(tls=authority.server("relay.test")) as r,
        proxied(r) as proxy,
        running_agent(
            tmp_path,
            f"wss://relay.test:{r.port}/tunnel",
            ca_file=authority.file,
            environ={"https_proxy": f"http://127.0.0.1:{proxy.port}"},
        ),
    ):
        assert (await r.session()).request.token.reveal() == TOKEN
        assert len(proxy.heads) == 1


async def test_a_proxy_cannot_pass_for_the_relay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        relay(tls=authority.server("proxy.test")) as r,
        proxied(r) as proxy,
        running_agent(
            tmp_path,
            f"wss://relay.test:{r.port}/tunnel",
            ca_file=authority.file,
            environ={"https_proxy": f"http://127.0.0.1:{proxy.port}"},
        ) as running,
    ):
        fields = await until_logged(running, "cannot connect")
        assert "relay.test" in str(fields["detail"])
        assert r.requests == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "credentials"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "proxy"),
        (b"HTTP/1.1 200 OK\r\n", "proxy"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", "before it was asked"),
        (b"", "within 9 s"),
    ],
)
async def test_a_proxy_that_does_not_let_it_through_is_tried_again(tmp_path: Path, answer: bytes, says: str) -> None:
    async with (
        relay() as r,
        proxied(r, answer) as proxy,
        running_agent(
            tmp_path,
            f"ws://relay.test:{r.port}/tunnel",
            allow_plaintext=True,
            connect_timeout=9,
            environ={"http_proxy": f"http://me:hunter2@127.0.0.1:{proxy.port}"},
        ) as running,
    ):
        fields = await until_logged(running, "cannot connect", 2)
        assert says in str(fields["detail"])
        assert "hunter2" not in repr(running.log.lines)
        assert r.requests == []
        assert running.code is None
