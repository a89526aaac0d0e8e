"""Devices that pair, for tests."""

from __future__ import annotations

from typing import Any

import httpx

from common.crypto.api_tokens import stored_hash
from common.crypto.device_keys import DeviceKey, Purpose
from common.secret import Secret
from tests.api_server.people import PROGRAM, Home, Person

__all__ = ["exchange", "pair", "pairing_token"]


async def pairing_token(home: Home, who: Person = PROGRAM, **body: Any) -> Any:
    """A new pairing token, as the API shows it."""
    answer = await home.call("POST", "/api/pairing-tokens", who, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def exchange(
    home: Home, token: str, key: DeviceKey | None, name: str | None = "lathe", **more: Any
) -> httpx.Response:
    """What a device asks with that token and key."""
    body: dict[str, Any] = {"token": token, "name": name, **more}
    if key is not None:
        proof = key.prove(Purpose.PAIR, stored_hash(Secret(token)), home.clock.wall())
        body = {"public_key": key.public, "proof": proof, **body}
    return await home.call("POST", "/api/pairing/exchange", None, json=body)


async def pair(home: Home, key: DeviceKey, name: str = "lathe") -> httpx.Response:
    """A device that is paired with a token of its own."""
    return await exchange(home, (await pairing_token(home))["token"], key, name)
