"""The agent's composition root: settings in, exit code out.

0   stopped by a signal
1   refused for good, or the token or the certificates cannot be read
2   the relay's URL or a service cannot be understood
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
from collections.abc import Callable, Mapping, Sequence

import trio

from common.logging import Logger, configure, get_logger
from common.memory import keep_freed_memory
from common.process import ignore_stop_signals, on_stop_signals
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.wire import messages
from common.yamux import Config as YamuxConfig
from common.yamux import MemoryBudget
from edge_agent.agent import Agent, AgentStatistics
from edge_agent.dialer import TunnelDialer, read_token
from edge_agent.errors import AgentError, RelayUrlError, ServiceSpecError
from edge_agent.health import HealthMonitor
from edge_agent.pairing import ApiClient, CredentialStore, Renewer, RenewingDialer
from edge_agent.pairing.errors import NotPairedError
from edge_agent.ready_file import ReadyFile, remove_ready_file
from edge_agent.redial import Redial
from edge_agent.relay_url import RelayUrl
from edge_agent.services import ServiceList
from edge_agent.settings import AgentSettings
from edge_agent.tls import client_context

__all__ = ["build_agent", "run", "software"]

_SPARE_STREAMS = 256
"""Streams of a tunnel beyond `max_streams`: the control stream, and those that are being refused with a reason. What
comes beyond them is reset without one."""

_SPARE_DESCRIPTORS = 128
"""Descriptors for tunnels, checks and files, beside one a stream."""


def run(settings: AgentSettings) -> int:
    """Run an agent until SIGTERM or SIGINT, or until it is refused for good; returns the exit code.

    The first signal ends it in order, within the grace; a second one ends the grace.
    """
    configure(format=settings.log_format, level=settings.log_level)
    logger = get_logger("agent")
    keep_freed_memory()
    try:
        agent, renewer = build_agent(settings, logger, environ=os.environ)
    except (RelayUrlError, ServiceSpecError) as exc:
        logger.error("wrong settings", code=exc.code, detail=exc.detail)  # noqa: TRY400  the detail says it all
        return 2
    except AgentError as exc:
        logger.error("cannot start", code=exc.code, detail=exc.detail)  # noqa: TRY400
        return 1
    _allow_descriptors(settings.max_streams + _SPARE_DESCRIPTORS)
    try:
        return trio.run(_run_until_signal, agent, renewer)
    finally:
        if settings.ready_file is not None:
            remove_ready_file(settings.ready_file)


def build_agent(settings: AgentSettings, logger: Logger, *, environ: Mapping[str, str]) -> tuple[Agent, Renewer | None]:
    """The agent that the settings describe, not running yet, and what renews its session token if the device is paired.

    Args:
        settings: of the process.
        logger: for everything that the agent has to say.
        environ: where proxies are looked up.

    Raises:
        AgentError: a setting cannot be used, or a file that it names.
    """
    renewer = _renewer(settings, logger)
    url = settings.relay
    if url is None:
        if renewer is None:
            raise RelayUrlError("no relay is named: give --relay, or pair the device first by `homeport agent pair`")
        url = renewer.credential.tunnel_url
    relay = RelayUrl.parse(url, allow_plaintext=settings.allow_plaintext)
    services = ServiceList.parse(settings.services)
    ssl_context = client_context(settings.ca_file) if relay.secure else None
    token_file = settings.token_file or CredentialStore(settings.folder).token_file
    read_token(token_file)  # to fail at the start, and not in the log of a service that seems to run
    if not relay.secure and settings.allow_plaintext:
        logger.warning("the session token and all traffic go to the relay unencrypted", relay=str(relay))
    tunnel_dialer = TunnelDialer(
        relay,
        token_file,
        software=software(),
        ssl_context=ssl_context,
        environ=environ,
        config=TunnelConfig(
            yamux=YamuxConfig(
                max_streams=settings.max_streams + _SPARE_STREAMS, session_window_budget=settings.memory_budget
            )
        ),
        limits=HandshakeLimits(timeout=settings.connect_timeout),
        budget=MemoryBudget(settings.memory_budget),
        logger=logger,
    )
    dialer = tunnel_dialer if renewer is None else RenewingDialer(tunnel_dialer, renewer, logger)

    def make_monitor(on_change: Callable[[Sequence[messages.Service]], None]) -> HealthMonitor:
        return HealthMonitor(
            services,
            interval=settings.health_interval,
            timeout=settings.health_timeout,
            fall=settings.health_fall,
            rise=settings.health_rise,
            on_change=on_change,
            logger=logger,
        )

    agent = Agent(
        dialer,
        services,
        redial=Redial(base=settings.retry_base, maximum=settings.retry_maximum),
        make_monitor=make_monitor,
        logger=logger,
        on_change=ReadyFile(settings.ready_file, str(relay), logger).update if settings.ready_file else _ignore,
        max_streams=settings.max_streams,
        drain_grace=settings.drain_grace,
    )
    return agent, renewer


def software() -> str:
    """Name and version of the agent, as relays and APIs are told."""
    return f"homeport-agent/{importlib.metadata.version('homeport')}"


def _renewer(settings: AgentSettings, logger: Logger) -> Renewer | None:
    """What renews the session token of a paired device; None when somebody else looks after the token.

    Raises:
        PairingError: the device is paired, and its credential cannot be used.
    """
    if settings.token_file is not None:
        return None
    store = CredentialStore(settings.folder)
    try:
        credential, _ = store.read()
    except NotPairedError:
        return None
    trusted = client_context(settings.ca_file) if credential.api.startswith("https:") else None
    return Renewer(store, ApiClient(credential.api, ssl_context=trusted, software=software()), logger)


def _allow_descriptors(wanted: int) -> None:
    """Raise the limit of open files, as far as the system lets this process. Beyond it, streams are refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


async def _run_until_signal(agent: Agent, renewer: Renewer | None) -> int:
    token = trio.lowlevel.current_trio_token()
    on_stop_signals(lambda: token.run_sync_soon(agent.stop))
    async with trio.open_nursery() as nursery:
        if renewer is not None:
            nursery.start_soon(renewer.run)
        code = await agent.run()
        nursery.cancel_scope.cancel()
    ignore_stop_signals()
    return code


def _ignore(_statistics: AgentStatistics) -> None:
    """No ready file was asked for."""
