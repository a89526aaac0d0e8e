"""The few calls of the API that a device makes, over httpx on trio.

Each is bounded in time, and its answer in size. Redirects are not followed: they would take a proof or a token to
another place than the one that was named. A device whose clock is wrong takes the time from the answer that says so.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from ssl import SSLContext
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from common.crypto.device_keys import DeviceKey, Purpose
from common.urls import is_loopback_url, is_usable
from edge_agent.pairing.errors import ApiRefusedError, ApiUnreachableError, ApiUrlError

__all__ = ["ApiClient", "DeviceCodes", "Paired", "PairedDevice", "Renewed"]

_TIMEOUT = 20.0
"""Seconds for connecting, and for each wait on the answer."""

_DEADLINE = 60.0
"""Seconds for a whole call: an answer that comes byte by byte must not hold a device for days."""

_MAX_ANSWER = 64 * 1024
"""Bytes."""

T = TypeVar("T")


class PairedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The device that a pairing made."""

    id: str
    name: str
    team: str


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """A session token."""

    session_token: str
    expires_at: float
    tunnel_url: str


class Paired(Renewed, frozen=True, kw_only=True):
    """What a pairing gives."""

    device: PairedDevice


class DeviceCodes(msgspec.Struct, frozen=True, kw_only=True):
    """What the device flow begins with (RFC 8628 section 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: float
    interval: float


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    detail: str = ""


class ApiClient:
    """Calls the API of one installation. Close it.

    Args:
        url: base URL of the API.
        ssl_context: trusts what the device trusts; None for the system's.
        wall: this machine's clock, seconds since the Unix epoch.
        software: name and version of the agent.

    Raises:
        ApiUrlError: the URL cannot be used, or is plain HTTP to another machine.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl_context: SSLContext | None = None,
        wall: Callable[[], float] = time.time,
        software: str = "homeport-agent",
    ) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if not is_usable(self.url, loopback=True) or parts.path not in ("", "/"):
            raise ApiUrlError(f"{url} is not the base URL of an API, such as https://homeport.example")
        if parts.scheme != "https" and not is_loopback_url(self.url):
            raise ApiUrlError(f"{url} is another machine without TLS: the pairing would travel in clear; use https://")
        self._wall = wall
        self._offset = 0.0
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=_TIMEOUT,
            follow_redirects=False,
            verify=True if ssl_context is None else ssl_context,
            headers={"User-Agent": software, "Accept": "application/json"},
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def now(self) -> float:
        """The time by the API's clock, as far as it is known; seconds since the Unix epoch."""
        return self._wall() + self._offset

    async def exchange(self, key: DeviceKey, token: str, token_hash: str, name: str | None) -> Paired:
        """Exchange a pairing token.

        Raises:
            ApiRefusedError, ApiUnreachableError: as every call here.
        """
        return await self._prove(
            "/api/pairing/exchange",
            key,
            Purpose.PAIR,
            token_hash,
            {"token": token, "name": name, "public_key": key.public},
            Paired,
        )

    async def authorize(self, key: DeviceKey, name: str, agent: str) -> DeviceCodes:
        """Begin the device flow."""
        body = {"name": name, "public_key": key.public, "agent": agent}
        return await self._prove("/api/device-authorization", key, Purpose.AUTHORIZE, name, body, DeviceCodes)

    async def poll(self, key: DeviceKey, device_code: str, code_hash: str) -> Paired:
        """Ask whether somebody has approved the device."""
        body = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device_code}
        return await self._prove("/api/device-token", key, Purpose.POLL, code_hash, body, Paired)

    async def renew(self, key: DeviceKey, device: str) -> Renewed:
        """Get the next session token."""
        return await self._prove(f"/api/devices/{device}/renew", key, Purpose.RENEW, device, {}, Renewed)

    async def _prove(
        self, path: str, key: DeviceKey, purpose: Purpose, subject: str, body: dict[str, Any], answer: type[T]
    ) -> T:
        """Ask with a proof; once more by the API's clock when ours is wrong."""
        try:
            return await self._ask(path, {**body, "proof": key.prove(purpose, subject, self.now())}, answer)
        except ApiRefusedError as exc:
            if exc.api_code != "stale_proof" or exc.server_time is None:
                raise
            self._offset = exc.server_time - self._wall()
        return await self._ask(path, {**body, "proof": key.prove(purpose, subject, self.now())}, answer)

    async def _ask(self, path: str, body: dict[str, Any], answer: type[T]) -> T:
        content = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
        headers = {"Content-Type": "application/json"}
        received = bytearray()
        try:
            with trio.move_on_after(_DEADLINE) as scope:
                async with self._http.stream("POST", path, content=content, headers=headers) as response:
                    async for chunk in response.aiter_bytes():
                        received += chunk
                        if len(received) > _MAX_ANSWER:
                            scope.cancel()  # not left in the middle: httpx's generators end in order by it
        except httpx.HTTPError as exc:
            reason = str(exc) or type(exc).__name__
            raise ApiUnreachableError(f"{self.url} does not answer: {reason}; try the same again") from exc
        if scope.cancelled_caught:
            why = f"has more than {_MAX_ANSWER} bytes" if len(received) > _MAX_ANSWER else "does not end"
            raise ApiUnreachableError(f"the answer of {self.url} {why}; try the same again")
        if response.status_code >= 300:
            raise self._refusal(response, bytes(received))
        try:
            return msgspec.json.decode(received, type=answer)
        except msgspec.DecodeError as exc:
            raise ApiUnreachableError(
                f"{self.url} answers something else than Homeport does; is the URL right?"
            ) from exc

    def _refusal(self, response: httpx.Response, received: bytes) -> Exception:
        try:
            problem = msgspec.json.decode(received, type=_Problem)
        except msgspec.DecodeError:
            return ApiUnreachableError(f"{self.url} answers {response.status_code} and no more; is the URL right?")
        return ApiRefusedError(
            problem.code,
            response.status_code,
            problem.detail or problem.code,
            retry_after=_seconds(response.headers.get("Retry-After")),
            server_time=_time(response.headers.get("Date")),
        )


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 8 else None


def _time(text: str | None) -> float | None:
    """The time of a `Date` header (RFC 9110 section 6.6.1)."""
    if text is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
