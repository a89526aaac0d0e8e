"""What a target shows to whatever answers its requests."""

from __future__ import annotations

import re

import pytest

from api_server.gateway import Route, RoutedTarget
from api_server.gateway.device_streams import DeviceStreams
from api_server.gateway.errors import StreamResetError
from api_server.relay import ServiceDialer
from common.ids import ServiceName, TeamId
from tests.api_server.gateway.stage import BEARER, Stage, ok
from tests.api_server.relay.fake_relay import ServiceSide

pytestmark = pytest.mark.anyio


async def echo(side: ServiceSide) -> None:
    """Answers with the head that it got."""
    while True:
        await side.send(ok(await side.read_head()))


class Key:
    """A credential in X-Key."""

    by_carrier = False
    hides = re.compile(rb"(?im)^x[-_]key[ \t]*:[^\n]*\n")

    def __init__(self, *, ready: bool, there: bool = True) -> None:
        self.ready = ready
        self.there = there

    def lines_nowait(self) -> bytes | None:
        return b"X-Key: ours\r\n" if self.ready else None

    async def lines(self) -> bytes:
        if not self.there:
            raise StreamResetError("the credential cannot be had")
        return b"X-Key: ours\r\n"

    @property
    def renewable(self) -> bool:
        return False

    async def renew(self, refused: bytes) -> bytes:
        raise StreamResetError("there is one key")


class ToCam:
    """Everything goes to the device `cam`, with a credential."""

    def __init__(self, dialer: ServiceDialer, key: Key, host: bytes | None = None) -> None:
        self._target = RoutedTarget(
            team=TeamId("home"),
            name="cam",
            route_id="rte_0",
            tags=frozenset(),
            prefix=b"",
            streams=DeviceStreams(dialer, TeamId("home"), "cam", ServiceName("web")),
            host=host,
            credential=key,
        )

    def route(self, host: bytes, path: bytes) -> Route | None:
        return Route(self._target, path)


def head(path: str) -> str:
    """A request whose caller tries to show the service keys of its own."""
    return f"GET {path} HTTP/1.1\r\nHost: gw\r\n{BEARER}X-Key: theirs\r\nx_key:theirs\r\nX-Keys: kept\r\n\r\n"


@pytest.mark.parametrize("ready", [True, False])
async def test_g2_the_credential_of_the_target_stands_in_the_place_of_what_the_caller_shows(ready: bool) -> None:
    key = Key(ready=ready)
    async with Stage(router=lambda dialer: ToCam(dialer, key, b"backend:8443"), web=echo) as stage:
        client = await stage.connect()
        for _ in range(2):  # on a fresh stream, and on an idle one
            await client.send(head("/a?b=c"))
            lines = (await client.reply()).body.decode().split("\r\n")
            assert lines[0] == "GET /a?b=c HTTP/1.1"
            assert [line for line in lines if "key" in line.lower()] == ["X-Keys: kept", "X-Key: ours"]
            assert [line for line in lines if line.lower().startswith("host:")] == ["Host: backend:8443"]
            assert "hp_caller" not in "".join(lines)
            assert "X-Forwarded-Host: gw" in lines


async def test_g2_without_its_credential_no_request_is_sent() -> None:
    key = Key(ready=False, there=False)
    async with Stage(router=lambda dialer: ToCam(dialer, key), web=echo) as stage:
        client = await stage.connect()
        await client.send(head("/"))
        assert (await client.reply()).code == "stream_reset"
        assert stage.dialer.forwarder.opened == 0
