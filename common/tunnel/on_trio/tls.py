"""TLS over another transport, by `ssl.SSLObject` and memory: few wakeups, and records as large as can be."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from typing import Final

from common.tunnel.on_trio.transport import Transport
from common.tunnel.stream import Buffer

__all__ = ["TLSTransport"]

RECORD: Final = 16 * 1024
"""Bytes that a record holds at most (RFC 8446 section 5.1)."""
MOST_READ: Final = 256 * 1024
"""Bytes handed on at once, give or take a record."""


class TLSTransport:
    """Implements `Transport`. Call `handshake` first.

    What is given to `send_nowait` is encrypted at once, in one piece, so that a small frame and the payload behind it
    share records. What the connection does not take stays here, encrypted: `unsent`; nothing more is taken meanwhile.

    Args:
        inner: the connection.
        context: certificates and protocol versions.
        server_hostname: the name that the peer's certificate must have, for a client.
        server_side: which side this is.
    """

    __slots__ = ("_incoming", "_inner", "_outgoing", "_tls", "_unsent")

    def __init__(
        self,
        inner: Transport,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
    ) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._unsent = memoryview(b"")

    @property
    def unsent(self) -> int:
        return len(self._unsent) + self._outgoing.pending + self._inner.unsent

    async def handshake(self) -> None:
        """Do the TLS handshake. The caller limits the time, and closes the transport when it fails.

        Raises:
            OSError: it failed; `ssl.SSLError` is one.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send_all()
                if not self._feed():
                    await self._inner.wait_readable()
            except ssl.SSLError:
                self._push()  # the alert that tells the peer why
                raise
            else:
                await self._send_all()
                return

    def receive_nowait(self) -> bytes | None:
        pieces: list[bytes] = []
        size = 0
        while size < MOST_READ:
            try:
                piece = self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                # What was taken from below holds no whole record any more. Before taking more, hand on what there is.
                if pieces:
                    break
                if not self._feed():
                    return None
                continue
            except ssl.SSLEOFError:
                # Cut off without the peer's word that it was meant (RFC 8446 section 6.1). A tunnel that ends without
                # its own close is lost either way.
                break
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def wait_readable(self) -> None:
        await self._inner.wait_readable()

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        if not self._push() or not buffers:
            return 0
        clear = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        size = len(clear)
        while clear:
            clear = clear[self._tls.write(clear) :]
        self._push()
        return size

    async def wait_writable(self) -> None:
        await self._inner.wait_writable()

    async def aclose(self) -> None:
        with contextlib.suppress(OSError):  # the peer may be gone, or the handshake never done
            try:
                self._tls.unwrap()
            except ssl.SSLWantReadError:  # it wants the peer's answer, which nobody waits for
                self._push()
        await self._inner.aclose()

    def _feed(self) -> bool:
        """Take from below what has arrived; whether there was something, the end included."""
        data = self._inner.receive_nowait()
        if data is None:
            return False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return True

    def _push(self) -> bool:
        """Give below what is encrypted; whether all of it went."""
        while True:
            if not self._unsent:
                if not self._outgoing.pending:
                    return not self._inner.unsent
                self._unsent = memoryview(self._outgoing.read())
            sent = self._inner.send_nowait((self._unsent,))
            if not sent:
                return False
            self._unsent = self._unsent[sent:]

    async def _send_all(self) -> None:
        while not self._push():
            await self._inner.wait_writable()
