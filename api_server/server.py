"""The API server: the REST API and the gateway in one process, and what they share.

                       ┌── RestServer :3721 ── endpoints ── ProxyClientStore ──┐
    ProgramAuthenticator                                                       ├── relay, internal HTTP
                       └── Gateway    :3722 ─┬ ServiceDialer ── Forwarder ─────┘
                                             └ Backends ── Outbound ── https backends
    EventFeed ──> EventHub (event streams), DialerUpdates (where devices are), RevocationService (what it must be told),
                  ChangeFeed (what other API processes changed) ──> caches
    Database  ──> the stores of the domains, the audit log, the revocations

Nothing is kept in the process that is not the relay's, a cache, or in the database: to have more of it, start more
processes (`reuse_port`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

from api_server.audit.checkpoints import Checkpoints, CheckpointTask
from api_server.audit.endpoints import AuditEndpoints
from api_server.audit.keys import CheckpointSigner
from api_server.audit.log import ChainedAuditLog
from api_server.audit.store import AuditStore
from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.auth.signin.gateway_endpoints import GatewaySignInEndpoints
from api_server.broker.quick_tokens import QuickTokens
from api_server.changes.feed import ChangeFeed
from api_server.changes.log import AnnouncedChanges
from api_server.connections import Connections
from api_server.custody.composition import Custody
from api_server.custody.keys import check_keys
from api_server.db.database import Database
from api_server.devices.directory import RegisteredDevices
from api_server.domains import Domains
from api_server.events.endpoints import EventEndpoints
from api_server.events.hub import EventHub
from api_server.events.metrics import EventMetrics
from api_server.gateway_side import GatewaySide
from api_server.health.endpoints import HealthEndpoints
from api_server.health.readiness import Readiness
from api_server.http.application import RestApplication
from api_server.http.metrics import RestMetrics
from api_server.http.origins import origin_of
from api_server.http.server import RestServer
from api_server.inspector.endpoints import InspectorEndpoints
from api_server.limits.limiter import Limiter
from api_server.limits.metrics import LimitMetrics
from api_server.limits.valkey_counter import counter_at
from api_server.outbound.outbound import Outbound
from api_server.programs import Programs
from api_server.provider_tokens.metrics import ProviderTokenMetrics
from api_server.provider_tokens.pace import Pace
from api_server.relay import (
    Absence,
    DialerUpdates,
    EventFeed,
    Forwarder,
    ProxyClient,
    ProxyClientStore,
    ServiceDialer,
    SessionDirectory,
    StreamPool,
)
from api_server.rest import rest_routes
from api_server.sessions.endpoints import SessionEndpoints
from api_server.settings import ApiSettings
from api_server.sign_in import SignIn
from api_server.tokens.keys import TokenKeys
from api_server.usage.metrics import UsageMetrics
from api_server.usage.recorder import UsageRecorder
from common.clock import Clock, SystemClock
from common.crypto.envelope import Envelope
from common.crypto.keyfiles import read_secret
from common.crypto.keyring import KeyringFile
from common.crypto.session_tokens import SessionTokenSigner
from common.guesses import GuessLimiter
from common.ids import TeamId
from common.logging import get_logger
from common.metrics import new_registry
from common.settings import Problem, SettingsError

__all__ = ["ApiServer"]


class ApiServer:
    """One API server. Use it as an async context manager: it listens within.

    Args:
        settings: what it was told.
        clock: source of time.

    Raises:
        DatabaseError: the URL of the database, or its file, cannot be used.
        KeyFileError: a key file cannot be used.
        SettingsError: a certificate cannot be used.
    """

    def __init__(self, settings: ApiSettings, *, clock: Clock | None = None) -> None:
        clock = clock if clock is not None else SystemClock()
        self._settings = settings
        self._log = get_logger("api_server")
        self.registry = new_registry()
        key = read_secret(settings.internal_key_file) if settings.internal_key_file is not None else None
        tls = _client_tls(settings)

        self._client = ProxyClient(settings.relay_url, key=key, tls=tls)
        forwarder = Forwarder(settings.relay_url, key=key, tls=tls)
        store = ProxyClientStore(self._client, forwarder)
        absence = Absence(clock=clock, patience=settings.relay_patience)
        self._database = Database.connect(settings.database(), pool_size=settings.database_pool_size)
        self._envelope = Envelope(KeyringFile(settings.keyring()))
        devices = RegisteredDevices(self._database, store.locate)
        dialer = ServiceDialer(SessionDirectory(devices.locate, clock=clock), forwarder, StreamPool(), absence)
        guesses = GuessLimiter(burst=settings.wrong_token_burst, interval=settings.wrong_token_interval)
        administration = AdminTokenAuthenticator.from_file(
            settings.admin_token_file, TeamId(settings.team), clock=clock, guesses=guesses
        )
        token_keys = TokenKeys.from_file(settings.api_token_keys())

        self._outbound = Outbound(settings.allow_private_targets, ca_file=settings.outbound_ca_file)
        self._hub = EventHub(metrics=EventMetrics(self.registry), max_followers=settings.max_event_clients)
        checkpoints = Checkpoints(CheckpointSigner(settings.audit_key()))
        self._checkpoints = CheckpointTask(self._database, checkpoints, clock)
        self._audit = ChainedAuditLog(checkpoints, clock)
        self.changes = ChangeFeed(self._database, clock)
        """What this process and others change; whatever keeps a cache listens to it."""
        self._limiter = Limiter(clock, LimitMetrics(self.registry), counter_at(settings.directory_url, clock))
        self._usage = UsageRecorder(
            self._database,
            UsageMetrics(self.registry),
            clock,
            interval=settings.usage_interval,
            retention=settings.usage_retention,
            before_write=lambda: self._gateway.report_usage(),
        )
        self._sign_in = SignIn(
            settings,
            self._database,
            self._audit,
            clock,
            base_url=lambda: self.api_url,
            gateway_url=lambda: self.gateway_url,
        )
        changes = AnnouncedChanges(self.changes, self._client)
        self.domains = Domains(
            database=self._database,
            audit=self._audit,
            accounts=self._sign_in.store,
            changes=changes,
            freshness=self.changes,
            relay=self._client,
            envelope=self._envelope,
            outbound=self._outbound,
            signer=SessionTokenSigner.from_file(settings.session_signing_key_file),
            clock=clock,
            limiter=self._limiter,
            registry=self.registry,
            tunnel_url=settings.tunnel_url,
            public_url=lambda: settings.public_url or self.api_url,
            token_keys=token_keys,
            api_token_max_lifetime=settings.api_token_max_lifetime,
            token_lifetime=settings.session_token_lifetime,
            token_max_lifetime=settings.session_token_max_lifetime,
            broker_concurrency=settings.broker_concurrency,
            broker_rate=settings.broker_rate,
        )
        self._custody = Custody(
            settings,
            database=self._database,
            copy=self.domains.records,
            envelope=self._envelope,
            leases=self.domains.leases,
            registry=self.registry,
            clock=clock,
        )
        self._connections = Connections(
            settings.providers,
            self._outbound.http,
            clock,
            database=self._database,
            records=self._custody.records,
            leases=self.domains.leases,
            envelope=self._envelope,
            audit=self._audit,
            changes=self.domains.changes,
            cookie_keys=self._sign_in.cookie_keys,
            secure=settings.public_url is not None and settings.public_url.startswith("https:"),
            base_url=lambda: self.api_url if settings.public_url is None else origin_of(settings.public_url),
            pace=Pace(burst=settings.hand_out_burst, interval=settings.hand_out_interval),
            metrics=ProviderTokenMetrics(self.registry),
            sign_in=self._sign_in.offline_provider(),
        )
        if settings.oidc_offline_access:
            self._sign_in.service.keep_offline_tokens(self._connections.offline)
        self._programs = Programs(
            database=self._database,
            feed=self.changes,
            changes=changes,
            memberships=self._sign_in.memberships,
            keys=token_keys,
            administration=administration,
            guesses=guesses,
            clock=clock,
            registry=self.registry,
        )
        self.feed = EventFeed(
            self._client, clock=clock, on_link=lambda there: absence.relay_back() if there else absence.relay_lost()
        )
        # The dialer's caches are right before anybody who waited looks at them again.
        for listener in (
            DialerUpdates(dialer, clock),
            absence,
            self._hub,
            self.domains.revocations,
            self.domains.sightings,
            self.domains.collector,
        ):
            self.feed.add(listener)
        self.changes.add(self.domains.limit_watch)
        self.changes.add(self.domains.broker.cache)
        self.changes.add(self.domains.collector)
        # The caches first: who sees an event finds what it tells of.
        self.feed.add_notice_listener(self.changes)
        self.feed.add_notice_listener(self._hub)

        self._side = GatewaySide(
            settings,
            database=self._database,
            dialer=dialer,
            outbound=self._outbound,
            envelope=self._envelope,
            tokens=self.domains.broker.tokens,
            programs=self._programs,
            sign_in=self._sign_in,
            limiter=self._limiter,
            usage=self._usage,
            feed=self.feed,
            changes=self.changes,
            registry=self.registry,
            clock=clock,
        )
        self._gateway = self._side.gateway
        self.routes = self._side.routes
        """The routes that this gateway knows."""

        self._readiness = Readiness(self._client, self._database, clock)
        metrics = RestMetrics(self.registry)
        application = RestApplication(
            authenticator=self._programs.authenticator,
            sessions=self._sign_in.sessions,
            metrics=metrics,
            public_origin=None if settings.public_url is None else origin_of(settings.public_url),
            max_request_bytes=settings.max_request_bytes,
            limiter=self._limiter,
        )
        self._rest = RestServer(
            application.build(
                rest_routes(
                    self._sign_in.endpoints,
                    GatewaySignInEndpoints(self._sign_in.gateway, self._gateway.places),
                    InspectorEndpoints(
                        self._side.recorder,
                        self.domains.routes,
                        self._gateway,
                        database=self._database,
                        audit=self._audit,
                        process=f"{socket.gethostname()}:{os.getpid()}",
                    ),
                    *self.domains.endpoints,
                    *self._connections.endpoints,
                    AuditEndpoints(AuditStore(self._database)),
                    EventEndpoints(self._hub),
                    HealthEndpoints(self._readiness, self.registry),
                    SessionEndpoints(store, self.domains.devices, self.domains.journal),
                )
            ),
            quick=QuickTokens(self._programs.authenticator, self.domains.broker.tokens, metrics, clock, self._limiter),
        )
        self._exit = contextlib.AsyncExitStack()
        self._hurry = asyncio.Event()
        self.api_url = ""
        """Base URL of the REST API; known once started."""
        self.gateway_url = ""
        """Base URL of the gateway; known once started."""

    async def __aenter__(self) -> ApiServer:
        """Listen on both ports.

        Raises:
            DatabaseError: the database is not there, or has another schema.
            SealError: the keyring lacks a key that something in the database needs.
            OSError: a port cannot be had.
        """
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything at once; `drain` comes before.

        Raises:
            ExceptionGroup: a task of the server failed.
        """
        # Without the exception of the block: the task group would wrap it, and only its own tasks' are its business.
        await self._exit.aclose()

    async def _start(self) -> None:
        settings = self._settings
        self._exit.push_async_callback(self._database.close)
        await self._database.check()
        await check_keys(self._database, self._envelope.keyring)
        await self.domains.limit_watch.load()
        self._exit.push_async_callback(self._outbound.aclose)
        self._exit.push_async_callback(self._sign_in.aclose)
        self._exit.push_async_callback(self._connections.aclose)
        await self._sign_in.prepare()
        # The last entries of this process are signed by it, too.
        self._exit.push_async_callback(self._checkpoints.sign)
        self._exit.push_async_callback(self._programs.last_use.finish)
        self._exit.push_async_callback(self._client.aclose)
        self._exit.push_async_callback(self._custody.close)
        self._exit.push_async_callback(self.domains.broker.aclose)
        # If one of these fails, so does the process: without it devices would be looked for where they are no more.
        tasks = await self._exit.enter_async_context(asyncio.TaskGroup())
        for run in (
            self.feed.run,
            self.changes.run,
            self._programs.last_use.run,
            self._programs.warnings.run,
            self.domains.revocations.run,
            self.domains.sightings.run,
            self._limiter.run,
            self.domains.limit_watch.run,
            self._usage.run,
            self.domains.collector.run,
            self.domains.courier.run,
            self._checkpoints.run,
            self._custody.run,
            self._sign_in.service.run,
            *self._side.tasks(),
        ):
            self._exit.callback(tasks.create_task(run(), name=run.__qualname__).cancel)
        self._exit.push_async_callback(self._usage.flush)
        await self.routes.catch_up()
        await self._custody.begin()
        self._exit.push_async_callback(self._gateway.close)
        await self._gateway.start(settings.gateway_host, settings.gateway_port, reuse_port=settings.reuse_port)
        self._exit.push_async_callback(self._rest.close)
        port = await self._rest.start(settings.api_host, settings.api_port, reuse_port=settings.reuse_port)
        # Last in, first out: event streams are ended before anybody waits for them.
        self._exit.callback(self._hub.close)
        self.api_url = f"http://{_authority(settings.api_host, port)}"
        self.gateway_url = f"http://{_authority(settings.gateway_host, self._gateway.port)}"
        self._log.info("listening", api=self.api_url, gateway=self.gateway_url, relay=settings.relay_url)

    async def drain(self) -> None:
        """Answer `/readyz` with 503, take no new connections to the gateway, and give what is under way there the
        grace to end. The REST API answers until then, so that whoever balances load can see it.
        """
        self._log.info("draining", grace=self._settings.drain_grace)
        self._readiness.drain()
        self._hub.close()
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(self._gateway.drain(self._settings.drain_grace))
            hurried = tasks.create_task(self._hurry.wait())
            await asyncio.wait((drained, hurried), return_when=asyncio.FIRST_COMPLETED)
            drained.cancel()
            hurried.cancel()

    def hurry(self) -> None:
        """End the grace of the drain."""
        self._hurry.set()


def _client_tls(settings: ApiSettings) -> ssl.SSLContext | None:
    """How the relay is reached over HTTPS; None over HTTP.

    Raises:
        SettingsError: a certificate or its key cannot be used.
    """
    if not settings.relay_url.startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.internal_tls_ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if settings.internal_tls_cert_file is not None and settings.internal_tls_key_file is not None:
            read_secret(settings.internal_tls_key_file)  # refuses a key that others may read
            context.load_cert_chain(settings.internal_tls_cert_file, settings.internal_tls_key_file)
    except (OSError, ssl.SSLError) as exc:
        problem = Problem("internal_tls_ca_file, internal_tls_cert_file, internal_tls_key_file", f"unusable: {exc}")
        raise SettingsError([problem]) from exc
    return context


def _authority(host: str, port: int) -> str:
    """`host:port` as it stands in a URL; a wildcard as the loopback address that it includes."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
