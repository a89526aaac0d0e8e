"""A relay and a device joined by a real shell on each side: the places in which every scenario is run.

    asyncio           both ends on asyncio's own loop, over TCP
    uvloop            both ends on uvloop, over TCP
    uvloop-trio       the relay on uvloop, the device on trio in a thread, over TCP
    uvloop-trio-tls   the same, over TLS
    uvloop-tls        both ends on uvloop, over TLS
    trio              both ends on trio over memory streams, on a clock that jumps when nothing can happen sooner

A scenario is one coroutine that drives both ends, told of every callback of either, and never sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
import trio.testing
import uvloop

from common.ids import ServiceName
from common.secret import Secret
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.handshake import Admission, Admit
from common.tunnel.interfaces import PendingStream, Subprotocol
from common.tunnel.on_asyncio import TunnelListener, connect_tunnel
from common.tunnel.on_trio import run_client_tunnel, serve_tunnel
from common.tunnel.on_trio.transport import StreamTransport
from tests.common.tunnel.fakes import HELLO, RELAY_HELLO, Echo, RecordingDevice, RecordingRelay, RecordingSink, Source

__all__ = ["WORLDS", "AsyncioWorld", "MixedWorld", "TrioWorld", "World"]

PATIENCE = 60.0
"""Seconds after which a scenario that waits for something is taken to wait in vain."""

T = TypeVar("T")
Scenario = Callable[["World"], Awaitable[None]]


class World(ABC):
    """Where a scenario is run.

    Args:
        subprotocol: what the device offers.
        relay_config: limits of the relay's end.
        device_config: limits of the device's end.
        admit: the relay's decision; None admits.
        certificates: contexts of server and client, for the worlds with TLS.
    """

    def __init__(
        self,
        *,
        subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1,
        relay_config: TunnelConfig | None = None,
        device_config: TunnelConfig | None = None,
        admit: Admit | None = None,
        certificates: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ) -> None:
        self.subprotocol = subprotocol
        self.relay_config = relay_config or TunnelConfig()
        self.device_config = device_config or TunnelConfig()
        self.admit = admit or (lambda _: Admission(handler=self.relay))
        self.certificates = certificates
        self.limits = HandshakeLimits()
        self.relay = RecordingRelay(self.changed)
        self.device = RecordingDevice(self.device_changed)
        self.device.serve = {"": self.echo, "echo": self.echo, "keep": self.keep, "count": self.count}
        self.payload = b""

    # How a world differs.

    @abstractmethod
    def run(self, scenario: Scenario) -> None:
        """Run a scenario over an open tunnel."""

    @abstractmethod
    def changed(self) -> None:
        """Something happened at the relay's end."""

    def device_changed(self) -> None:
        """Something happened at the device's end."""
        self.changed()

    @abstractmethod
    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""

    async def on_device(self, act: Callable[[], T]) -> T:
        """Do something where the device's end may be touched."""
        return act()

    @abstractmethod
    def cut(self) -> None:
        """Break the connection at the relay's end."""

    # What the device serves.

    def echo(self, request: PendingStream) -> RecordingSink:
        sink = Echo(self.device_changed)
        sink.attach(request.accept(sink))
        return sink

    def keep(self, request: PendingStream) -> RecordingSink:
        sink = RecordingSink(self.device_changed)
        sink.attach(request.accept(sink))
        return sink

    def count(self, request: PendingStream) -> RecordingSink:
        """Send the world's payload."""
        sink = Source(self.payload, self.device_changed)
        sink.attach(request.accept(sink))
        sink.pump()
        return sink

    # What scenarios do.

    def sink(self, **arguments: Any) -> RecordingSink:
        return RecordingSink(self.changed, **arguments)

    def ask(self, service: str, sink: RecordingSink | None = None, *, timeout: float = 30.0) -> RecordingSink:
        """Ask for a stream, and do not wait."""
        sink = sink or self.sink()
        self.relay.tunnel.open_service(ServiceName(service), sink, timeout=timeout, on_result=sink.got_result)
        return sink

    async def open(self, service: str, sink: RecordingSink | None = None) -> RecordingSink:
        """A stream to a service of the device."""
        sink = self.ask(service, sink)
        await self.until(lambda: sink.result is not None)
        assert sink.stream is not None, sink.result
        return sink

    async def begin(self) -> None:
        """Until both ends have said hello."""
        await self.until(lambda: self.relay.tunnel)
        self.relay.tunnel.greet(RELAY_HELLO)
        await self.until(lambda: self.device.tunnel)
        if self.subprotocol is Subprotocol.HOMEPORT_V1:
            await self.until(lambda: self.relay.hello and self.device.hello)


class AsyncioWorld(World):
    """Both ends on one asyncio loop."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop] = staticmethod(uvloop.new_event_loop)

    def run(self, scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(self._main(scenario))

    async def _main(self, scenario: Scenario) -> None:
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Event()
        self.listener = TunnelListener(self.admit, config=self.relay_config, limits=self.limits)
        server_context, self.client_context = self.certificates or (None, None)
        server = await self.loop.create_server(self.listener, "127.0.0.1", 0, ssl=server_context)
        scheme = "ws" if self.certificates is None else "wss"
        self.url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/tunnel"
        try:
            async with asyncio.timeout(PATIENCE):
                await self.dial()
                await self.begin()
                await scenario(self)
        finally:
            self.listener.abort_all()
            await self.hang_up()
            server.close()
            await server.wait_closed()

    async def dial(self) -> None:
        await connect_tunnel(
            self.url,
            self.device,
            token=Secret("token"),
            hello=HELLO,
            subprotocols=(self.subprotocol,),
            config=self.device_config,
            limits=self.limits,
            ssl_context=self.client_context,
        )

    async def hang_up(self) -> None:
        if self.device.tunnel is not None:
            await self.until(lambda: self.device.closed)

    def changed(self) -> None:
        self.news.set()

    async def until(self, holds: Callable[[], object]) -> None:
        while True:
            self.news.clear()
            if holds():
                return
            await self.news.wait()

    def cut(self) -> None:
        self.listener.abort_all()


class PlainAsyncioWorld(AsyncioWorld):
    """The same on asyncio's own loop."""

    loop_factory = staticmethod(asyncio.new_event_loop)


class MixedWorld(AsyncioWorld):
    """The relay on uvloop, the device on trio in a thread of its own."""

    async def dial(self) -> None:
        self.trio_over = asyncio.Event()
        self.trio_error: BaseException | None = None
        self.token: trio.lowlevel.TrioToken | None = None
        self.thread = threading.Thread(target=self._run_trio)
        self.thread.start()

    def _run_trio(self) -> None:
        async def device() -> None:
            self.token = trio.lowlevel.current_trio_token()
            with trio.CancelScope() as self.scope:
                await run_client_tunnel(
                    self.url,
                    self.device,
                    token=Secret("token"),
                    hello=HELLO,
                    subprotocols=(self.subprotocol,),
                    config=self.device_config,
                    limits=self.limits,
                    ssl_context=self.client_context,
                )

        try:
            trio.run(device)
        except BaseException as exc:
            self.trio_error = exc
        finally:
            self.loop.call_soon_threadsafe(self.trio_over.set)

    async def hang_up(self) -> None:
        if self.token is not None and not self.trio_over.is_set():
            with contextlib.suppress(trio.RunFinishedError):
                self.token.run_sync_soon(self.scope.cancel)
        await self.trio_over.wait()
        self.thread.join()
        if self.trio_error is not None:
            raise self.trio_error

    def device_changed(self) -> None:
        self.loop.call_soon_threadsafe(self.changed)

    async def on_device(self, act: Callable[[], T]) -> T:
        done: asyncio.Future[T] = self.loop.create_future()

        def in_trio() -> None:
            try:
                result = act()
            except BaseException as exc:
                self.loop.call_soon_threadsafe(done.set_exception, exc)
            else:
                self.loop.call_soon_threadsafe(done.set_result, result)

        assert self.token is not None
        self.token.run_sync_soon(in_trio)
        return await done


class TrioWorld(World):
    """Both ends on trio, over memory, on a clock that jumps."""

    def run(self, scenario: Scenario) -> None:
        trio.run(self._main, scenario, clock=trio.testing.MockClock(autojump_threshold=0))

    async def _main(self, scenario: Scenario) -> None:
        self.news = trio.Event()
        near, far = trio.testing.memory_stream_pair()
        self.near = near
        with trio.fail_after(PATIENCE * 1000):  # virtual seconds
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, near)
                nursery.start_soon(self._dial, far)
                await self.begin()
                await scenario(self)
                nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        await serve_tunnel(StreamTransport(stream), self.admit, config=self.relay_config, limits=self.limits)

    async def _dial(self, stream: trio.abc.Stream) -> None:
        await run_client_tunnel(
            "ws://relay.example/tunnel",
            self.device,
            token=Secret("token"),
            hello=HELLO,
            subprotocols=(self.subprotocol,),
            config=self.device_config,
            limits=self.limits,
            transport=StreamTransport(stream),
        )

    def changed(self) -> None:
        self.news.set()

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            self.news = trio.Event()
            await self.news.wait()

    def cut(self) -> None:
        self.near.send_stream.close()
        self.near.receive_stream.close()


WORLDS: dict[str, type[World]] = {
    "asyncio": PlainAsyncioWorld,
    "uvloop": AsyncioWorld,
    "uvloop-tls": AsyncioWorld,
    "uvloop-trio": MixedWorld,
    "uvloop-trio-tls": MixedWorld,
    "trio": TrioWorld,
}
