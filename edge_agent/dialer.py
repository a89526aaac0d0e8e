"""One dial of the relay: the token as the file holds it now, the way there, the tunnel.

The token is read again at each dial, so that a renewed one is used; it goes into the Authorization header of the
handshake and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from ssl import SSLContext

from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import read_secret
from common.logging import Logger
from common.secret import Secret
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.dial import DialSource
from common.tunnel.errors import TunnelLostError
from common.tunnel.interfaces import DeviceHandler
from common.tunnel.on_trio import Connect, connect_tcp, run_client_tunnel
from common.wire.messages import DeviceHello, Service
from common.yamux import MemoryBudget
from edge_agent.errors import TokenFileError
from edge_agent.relay_url import RelayUrl

__all__ = ["TunnelDialer", "read_token"]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}", re.ASCII)
"""What may stand behind `Bearer` (RFC 6750 section 2.1), and no more than the relay reads."""


def read_token(path: Path) -> Secret:
    """The session token in `path`.

    Raises:
        TokenFileError: it is not there, cannot be read, others can read it, or it holds something else.
    """
    try:
        token = read_secret(path)
    except KeyFileError as exc:
        raise TokenFileError(f"the session token: {exc.detail}") from exc
    if _TOKEN.fullmatch(token.reveal()) is None:
        raise TokenFileError(f"{path} holds something else than one session token, or more than that")
    return token


class TunnelDialer:
    """Implements `edge_agent.agent.Dialer`.

    Args:
        relay: where to.
        token_file: holds the session token.
        software: name and version of the agent.
        ssl_context: for `wss://`.
        environ: where proxies are looked up.
        config: limits of a tunnel.
        limits: limits of a handshake.
        budget: memory for receive windows.
        logger: one line a dial.
        connect: how to reach the relay, or the proxy; in a simulation, not by TCP.
    """

    def __init__(
        self,
        relay: RelayUrl,
        token_file: Path,
        *,
        software: str,
        ssl_context: SSLContext | None,
        environ: Mapping[str, str],
        config: TunnelConfig,
        limits: HandshakeLimits,
        budget: MemoryBudget,
        logger: Logger,
        connect: Connect = connect_tcp,
    ) -> None:
        self._relay = relay
        self._token_file = token_file
        self._software = software
        self._ssl_context = ssl_context
        self._environ = environ
        self._config = config
        self._limits = limits
        self._budget = budget
        self._logger = logger
        self._connect = connect
        self._shown: Secret | None = None
        self._dials = DialSource()

    async def run_tunnel(self, handler: DeviceHandler, services: Sequence[Service]) -> TunnelLostError:
        self._shown = None
        token = read_token(self._token_file)
        self._shown = token
        self._logger.info("connecting", relay=str(self._relay))
        return await run_client_tunnel(
            str(self._relay),
            handler,
            token=token,
            hello=DeviceHello(software=self._software, services=list(services)),
            dial=self._dials.next(),
            config=self._config,
            limits=self._limits,
            budget=self._budget,
            ssl_context=self._ssl_context,
            environ=self._environ,
            connect=self._connect,
        )

    def token_changed(self) -> bool:
        if self._shown is None:
            return False
        try:
            return read_token(self._token_file) != self._shown
        except TokenFileError:
            return False
