"""The request that turns an HTTP connection to the gateway into a raw stream to a service, and its answer. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from common.ids import is_name
from common.secret import Secret
from homeport.errors import GatewayUnreachableError, UpgradeRefusedError
from homeport.problems import read_problem

__all__ = ["GatewayUrl", "Target", "UpgradeHandshake"]

_PROTOCOL = "homeport-tcp"

_MAX_ANSWER = 64 * 1024
"""Bytes of head and problem body; what is longer is no answer of our gateway."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """The service that is meant."""

    team: str
    device: str
    service: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `TEAM/DEVICE/SERVICE`.

        Raises:
            ValueError: it is not that.
        """
        parts = text.split("/")
        if len(parts) != 3:
            raise ValueError("expected TEAM/DEVICE/SERVICE, such as home/demo/demo")
        for part in parts:
            if not is_name(part):
                raise ValueError(f"{part!r} is no name: lower-case letters, digits and single hyphens, at most 40")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.team}/{self.device}/{self.service}"


@dataclass(frozen=True, slots=True)
class GatewayUrl:
    """Where the gateway is."""

    host: str
    port: int
    tls: bool
    prefix: str
    """Path before `/t/...`, without a slash at its end; empty unless a proxy serves the gateway below a path."""

    @classmethod
    def parse(cls, text: str) -> GatewayUrl:
        """Read `http://HOST[:PORT][/PREFIX]` or the like with https.

        Raises:
            ValueError: it is not that.
        """
        parts = urlsplit(text)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError("expected http://HOST:PORT or https://HOST")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("expected no user, query or fragment in the gateway's URL")
        if not re.fullmatch(r"[!-~]*", parts.path) or not parts.hostname.isascii():
            raise ValueError("expected ASCII without spaces; write other names in their encoded form")
        port = parts.port or _DEFAULT_PORTS[parts.scheme]  # .port raises ValueError, too
        return cls(parts.hostname, port, parts.scheme == "https", parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """The `Host` of a request (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


class UpgradeHandshake:
    """One attempt: send `request()`, feed what comes back to `receive_data()` until it returns bytes.

    Args:
        gateway: where the request goes.
        target: the service that is asked for.
        token: the API token that may call it.
    """

    def __init__(self, gateway: GatewayUrl, target: Target, token: Secret) -> None:
        self._gateway = gateway
        self._target = target
        self._token = token
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0
        self._body: list[bytes] = []
        self._has_status = False
        self._complete = False

    def request(self) -> bytes:
        """The bytes to send first. The stream's own bytes may follow only once the answer is there."""
        return (
            f"GET {self._gateway.prefix}/t/{self._target} HTTP/1.1\r\n"
            f"Host: {self._gateway.authority}\r\n"
            "Connection: Upgrade\r\n"
            f"Upgrade: {_PROTOCOL}\r\n"
            f"Authorization: Bearer {self._token.reveal()}\r\n"
            "Accept: application/problem+json\r\n"
            "\r\n"
        ).encode("ascii")

    def receive_data(self, data: bytes) -> bytes | None:
        """Bytes of the answer.

        Returns:
            None while the answer is incomplete; once the stream is open, the bytes of it that came along.

        Raises:
            UpgradeRefusedError: the gateway says no, and why.
            GatewayUnreachableError: this is no answer of a gateway.
        """
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._parser.get_status_code() == 101:
                return data[exc.args[0] :]
        except httptools.HttpParserError as exc:
            if not self._complete:  # what follows a complete answer is none of our business
                raise GatewayUnreachableError(f"{self._gateway} does not answer in HTTP/1.1") from exc
        if self._complete:
            raise self._refusal()
        if self._received > _MAX_ANSWER:
            raise GatewayUnreachableError(f"{self._gateway} answers with more than {_MAX_ANSWER} bytes")
        return None

    def receive_eof(self) -> UpgradeRefusedError | GatewayUnreachableError:
        """The connection ended before the stream opened: why, as far as it can be told."""
        if self._has_status:  # an answer without a length ends with the connection (RFC 9112 section 6.3)
            return self._refusal()
        return GatewayUnreachableError(f"{self._gateway} closed the connection without an answer")

    def _refusal(self) -> UpgradeRefusedError:
        status = self._parser.get_status_code()
        if status < 400:
            detail = f"{self._gateway} answers {status} instead of opening a stream; is it the URL of the gateway?"
            return UpgradeRefusedError(detail, http_status=status, reason="")
        problem = read_problem(status, b"".join(self._body))
        return UpgradeRefusedError(problem.detail, http_status=status, reason=problem.code)

    # Called by the parser. A 1xx other than 101 is followed by the answer proper.

    def on_headers_complete(self) -> None:
        self._has_status = self._parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._complete = self._has_status
