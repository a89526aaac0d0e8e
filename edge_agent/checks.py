"""How the health of a local service is found out.

A check connects as a stream would and raises when the service is not well. It is made for strangers' programs: it asks
for little, reads a bounded answer, and leaves by the front door, so that their logs do not fill with broken pipes.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol

import trio

from edge_agent.errors import UnhealthyError
from edge_agent.targets import Target, connect_within

__all__ = ["Check", "ConnectCheck", "HttpCheck"]

_MAX_STATUS_LINE = 4 * 1024
"""Bytes within which the first line of an answer must end."""

_MAX_ANSWER = 64 * 1024
"""Bytes of the answer that are read, so that the service can finish writing it; a longer one is left unread."""


class Check(Protocol):
    """One way to look."""

    async def probe(self, target: Target, timeout: float) -> None:
        """Return if the service is well.

        Args:
            target: the service.
            timeout: seconds for connecting, and again for the answer.

        Raises:
            TargetError: why it is not.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConnectCheck:
    """It is well if it accepts a connection."""

    async def probe(self, target: Target, timeout: float) -> None:
        (await connect_within(target, timeout)).close()


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """It is well if it answers `GET path` with a status below 500."""

    path: str

    async def probe(self, target: Target, timeout: float) -> None:
        sock = await connect_within(target, timeout)
        try:
            with trio.fail_after(timeout):
                await _ask(sock, self.path, str(target))
        except trio.TooSlowError:
            raise UnhealthyError(f"{target} did not answer GET {self.path} within {timeout:g} s") from None
        except OSError as exc:
            raise UnhealthyError(f"{target} broke the connection off: {exc.strerror}") from exc
        finally:
            sock.close()


async def _ask(sock: socket.socket, path: str, host: str) -> None:
    # A Unix socket has no authority; RFC 9112 section 3.2 wants an empty Host field then, which some servers refuse.
    authority = "localhost" if host.startswith("/") else host
    request = f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: homeport-agent\r\nConnection: close\r\n\r\n"
    await trio.lowlevel.wait_writable(sock)
    sock.send(request.encode("ascii"))
    answer = bytearray()
    judged = False
    while len(answer) < _MAX_ANSWER:
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(_MAX_ANSWER)
        except ConnectionResetError:
            # Once the status is known, how the service hangs up is its own affair.
            if judged:
                return
            raise
        if not data:
            break
        answer += data
        if not judged and (b"\n" in answer or len(answer) > _MAX_STATUS_LINE):
            _judge(answer, host, path)
            judged = True
    if not judged:
        _judge(answer, host, path)


def _judge(answer: bytearray, host: str, path: str) -> None:
    line = bytes(answer[:_MAX_STATUS_LINE]).split(b"\n", 1)[0].rstrip(b"\r")
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if not (version.startswith(b"HTTP/1.") and len(status) == 3 and status.isdigit() and rest[3:4] in (b"", b" ")):
        raise UnhealthyError(f"{host} does not answer GET {path} with HTTP")
    if int(status) >= 500:
        raise UnhealthyError(f"{host} answers GET {path} with status {int(status)}")
