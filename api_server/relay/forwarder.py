"""Opens streams to the services of devices, through the relay: HTTP/1.1 `Upgrade: homeport-stream`, then raw bytes.

It costs a TCP connection to the relay and a round trip to the device, and is the slow way; the gateway's pool of idle
streams is the fast one.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from api_server.relay.stream import RelayStream
from common.ids import ServiceName, SessionId, TeamId, is_name, is_session_id
from common.secret import Secret
from common.sessions.errors import (
    RelayUnavailableError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
)
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions
from common.tunnel.stream import StreamSink

__all__ = ["Forwarder"]


class Forwarder:
    """Opens streams at one relay.

    Args:
        url: of the relay's internal HTTP, `http://` or `https://`, without a path.
        key: the internal key; None where a client certificate in `tls` stands for it.
        tls: for `https`; with a client certificate loaded it is mutual TLS.
        connect_timeout: seconds until the TCP (and TLS) connection must stand.
        answer_grace: seconds beyond the agent's time to answer that the relay is given to say that it is over.

    Raises:
        ValueError: `url` is not such a URL.
    """

    __slots__ = (
        "_answer_grace",
        "_authorization",
        "_connect_timeout",
        "_host",
        "_host_header",
        "_port",
        "_tls",
        "opened",
        "refused",
    )

    def __init__(
        self,
        url: str,
        *,
        key: Secret | None,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 3.0,
        answer_grace: float = 2.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"the relay's URL must be http(s)://host[:port], not {url!r}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._host_header = parts.netloc.rpartition("@")[2]
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        # Kept as a Secret: a Forwarder that is printed or pickled must not give the key away.
        self._authorization = Secret(f"Authorization: Bearer {key.reveal()}\r\n" if key is not None else "")
        self._connect_timeout = connect_timeout
        self._answer_grace = answer_grace
        self.opened = 0
        """Streams opened so far."""
        self.refused = 0
        """Opens that failed so far, for whatever reason."""

    def __repr__(self) -> str:
        return f"<Forwarder {self._host_header}: {self.opened} streams opened, {self.refused} refused>"

    async def open(
        self,
        session_id: SessionId,
        team: TeamId,
        service: ServiceName,
        sink: StreamSink | None = None,
        options: OpenOptions = DEFAULT_OPEN_OPTIONS,
    ) -> RelayStream:
        """Open a stream to a service of the device behind a session; returns once the agent accepted it.

        Args:
            sink: gets the stream's bytes and end. With None they are held until `RelayStream.attach`.

        Raises:
            SessionNotFoundError, SessionReplacedError, ServiceRefusedError, ServiceTimeoutError, OverCapacityError,
            DrainingError, RelayUnavailableError: as `Handle.open_stream` says.
        """
        try:
            stream = await self._open(session_id, team, service, sink, options)
        except BaseException:
            self.refused += 1
            raise
        self.opened += 1
        return stream

    async def _open(
        self, session_id: SessionId, team: TeamId, service: ServiceName, sink: StreamSink | None, options: OpenOptions
    ) -> RelayStream:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        stream = RelayStream(
            session_id,
            service,
            request=self._request(session_id, team, service, options),
            answered=answered,
            sink=sink,
        )
        try:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    await loop.create_connection(
                        lambda: stream,
                        self._host,
                        self._port,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls is not None else None,
                    )
            except (OSError, TimeoutError) as exc:
                raise RelayUnavailableError(f"no connection to the relay at {self._host_header}") from exc
            try:
                async with asyncio.timeout(options.timeout + self._answer_grace):
                    await answered
            except TimeoutError as exc:
                raise ServiceTimeoutError(f"no answer to the open within {options.timeout:g} s") from exc
        except BaseException:
            # Also when the caller was cancelled: nobody holds the stream now.
            answered.cancel()
            stream.reset()
            raise
        return stream

    def _request(self, session_id: SessionId, team: TeamId, service: ServiceName, options: OpenOptions) -> bytes:
        # Each of these goes into the head of a request, and must not be able to end a line of it.
        if not is_session_id(session_id) or not is_name(team):
            raise SessionNotFoundError
        if not is_name(service):
            raise ServiceRefusedError("that is not the name of a service")
        epoch = f"Homeport-Epoch: {options.epoch}\r\n" if options.epoch is not None else ""
        trace = options.traceparent
        trace = f"traceparent: {trace}\r\n" if trace is not None and trace.isascii() and trace.isprintable() else ""
        return (
            f"POST /internal/sessions/{session_id}/streams HTTP/1.1\r\n"
            f"Host: {self._host_header}\r\n"
            f"{self._authorization.reveal()}"
            "Connection: Upgrade\r\n"
            "Upgrade: homeport-stream\r\n"
            f"Homeport-Team: {team}\r\n"
            f"Homeport-Service: {service}\r\n"
            f"Homeport-Timeout: {options.timeout:g}\r\n"
            f"{epoch}{trace}\r\n"
        ).encode("ascii")
