"""The demo device's session token is renewed at half of its life, and an API that is away does not end that."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.secret import Secret
from homeport.errors import ApiRefusedError
from homeport.up.data_directory import DataDirectory
from homeport.up.demo_tokens import ApiAccess, DemoTokens
from tests.homeport.cli.api_server import TOKEN, Answer, Request, api_server, problem

pytestmark = pytest.mark.anyio


def issued(number: int, *, life: float) -> Answer:
    expires_at = SystemClock().wall() + life
    token = {"id": "crd", "session_token": f"eyJ{number}", "expires_at": expires_at, "tunnel_url": "ws://x"}
    return Answer(201, token)


async def test_it_is_renewed_again_and_again(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    renewed = asyncio.Event()
    count = 0
    said: list[str] = []

    def api(request: Request) -> Answer:
        nonlocal count
        assert request.path == "/api/devices/demo/session-tokens"
        count += 1
        if count == 2:
            return problem(503, "draining", "the API is draining")
        if count == 5:
            loop.call_soon_threadsafe(renewed.set)
        return issued(count, life=0.002)

    directory = DataDirectory(tmp_path)
    with api_server(api) as url:
        tokens = DemoTokens(ApiAccess(url, Secret(TOKEN), "home"), directory, SystemClock(), shortest_wait=0.001)
        await tokens.renew()
        assert directory.demo_token.read_text() == "eyJ1\n"
        keeping = asyncio.create_task(tokens.keep_fresh(said.append))
        await renewed.wait()
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    assert directory.demo_token.read_text().startswith("eyJ")
    assert said == ["the demo device's session token is not renewed yet: the API is draining"]


async def test_a_refusal_keeps_the_token_that_is_there(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.write_demo_token("old")
    with api_server(lambda _: problem(403, "forbidden", "not yours")) as url:
        tokens = DemoTokens(ApiAccess(url, Secret(TOKEN), "home"), directory, SystemClock())
        with pytest.raises(ApiRefusedError, match="not yours"):
            await tokens.renew()
    assert directory.demo_token.read_text() == "old\n"
