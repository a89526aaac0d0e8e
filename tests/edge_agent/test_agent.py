"""The agent's life around its tunnels, with a dialer that is told what happens. On a mock clock, times are exact."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.errors import HomeportError
from common.tunnel.errors import HandshakeFailedError, HandshakeRefusedError, TunnelLostError
from common.tunnel.interfaces import CloseReason, DeviceHandler, DeviceTunnel, Subprotocol, TunnelStatistics
from common.wire.messages import Drain, Health, RelayHello, Service, Stats
from edge_agent.agent import Agent, AgentState, AgentStatistics
from edge_agent.health import HealthMonitor
from edge_agent.redial import Redial
from edge_agent.services import ServiceList
from tests.edge_agent.fakes import FakeRequest
from tests.edge_agent.logs import RecordingLogger
from tests.edge_agent.services import echo, serve

pytestmark = pytest.mark.anyio


class Highest(random.Random):
    """Draws the upper end of every range: delays become ceilings."""

    def uniform(self, a: float, b: float) -> float:
        return b


class FakeTunnel(DeviceTunnel):
    """A tunnel that the test plays the relay of."""

    subprotocol = Subprotocol.HOMEPORT_V1

    def __init__(self, handler: DeviceHandler) -> None:
        self.handler = handler
        self.end: TunnelLostError | None = None
        self.ended = trio.Event()
        self.draining = False
        self.services: list[dict[str, str]] = []
        self.stats: list[Stats] = []
        self.streams = 0

    # What the agent calls.

    @property
    def closed(self) -> bool:
        return self.end is not None

    def drain(self, *, reconnect_after: float = 0.0, reason: str = CloseReason.DRAINING) -> None:
        self.draining = True
        self.look()

    def close(self, reason: str = CloseReason.CLOSED) -> None:
        self.lose(TunnelLostError("closed by this side", reason=reason))

    def statistics(self) -> TunnelStatistics:
        return TunnelStatistics(
            streams=self.streams,
            streams_total=0,
            bytes_in=10,
            bytes_out=20,
            buffered=0,
            rtt=None,
            last_received=0,
            draining=self.draining,
        )

    def update_services(self, services: Sequence[Service]) -> None:
        self.services.append({service.name: service.health for service in services})

    def send_stats(self, stats: Stats) -> None:
        self.stats.append(stats)

    # What the test calls.

    def greet(self, epoch: int = 1) -> None:
        self.handler.hello_received(RelayHello(software="relay/1", session_id=f"ses_{epoch}", epoch=epoch))

    def look(self) -> None:
        """As the tunnel does when a stream ends."""
        if self.draining and self.streams == 0 and not self.closed:
            self.handler.tunnel_drained()

    def lose(self, error: TunnelLostError) -> None:
        if self.end is None:
            self.end = error
            self.handler.tunnel_closed(error)
            self.ended.set()


@dataclass
class FakeDialer:
    """Opens a `FakeTunnel` at each dial, or raises what was put into `failures` first."""

    failures: list[HomeportError] = field(default_factory=list)
    greets: bool = True
    hangs: bool = False
    changed: bool = False
    dialled_at: list[float] = field(default_factory=list)
    tunnels: list[FakeTunnel] = field(default_factory=list)
    _opened: trio.Event = field(default_factory=trio.Event)

    async def next_tunnel(self) -> None:
        """Wait until one more is open."""
        await self._opened.wait()

    async def run_tunnel(self, handler: DeviceHandler, services: Sequence[Service]) -> TunnelLostError:
        self.dialled_at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.failures:
            raise self.failures.pop(0)
        tunnel = FakeTunnel(handler)
        self.tunnels.append(tunnel)
        self._opened.set()
        self._opened = trio.Event()
        handler.tunnel_opened(tunnel)
        if self.greets:
            tunnel.greet(len(self.tunnels))
        await tunnel.ended.wait()
        assert tunnel.end is not None
        return tunnel.end

    def token_changed(self) -> bool:
        return self.changed


@dataclass
class Run:
    """An agent that runs."""

    agent: Agent
    dialer: FakeDialer
    log: RecordingLogger
    changes: list[AgentStatistics]
    started_at: float
    done: trio.Event = field(default_factory=trio.Event)
    code: int | None = None

    @property
    def states(self) -> list[str]:
        return [change.state for change in self.changes]

    @property
    def dials(self) -> list[float]:
        """When it dialled, in seconds since it started."""
        return [at - self.started_at for at in self.dialer.dialled_at]

    async def end(self) -> int:
        await self.done.wait()
        assert self.code is not None
        return self.code


@asynccontextmanager
async def running(
    dialer: FakeDialer, *specs: str, drain_grace: float = 30, rng: random.Random | None = None
) -> AsyncIterator[Run]:
    log = RecordingLogger()
    services = ServiceList.parse(specs or ["web=http://127.0.0.1:1?health=off"])
    changes: list[AgentStatistics] = []

    def make_monitor(on_change: Callable[[Sequence[Service]], None]) -> HealthMonitor:
        return HealthMonitor(
            services, interval=10, timeout=5, fall=1, rise=1, on_change=on_change, logger=log.as_logger(), rng=Highest()
        )

    agent = Agent(
        dialer,
        services,
        redial=Redial(base=1, maximum=60, rng=rng or Highest()),
        make_monitor=make_monitor,
        logger=log.as_logger(),
        on_change=changes.append,
        max_streams=100,
        drain_grace=drain_grace,
    )
    run = Run(agent, dialer, log, changes, trio.current_time())

    async def run_agent() -> None:
        run.code = await agent.run()
        run.done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_agent)
        await wait_all_tasks_blocked()
        yield run
        nursery.cancel_scope.cancel()


async def test_it_connects_and_says_so() -> None:
    async with running(FakeDialer()) as run:
        assert run.states == ["connecting", "connected"]
        assert run.log.fields("connected") == {"session": "ses_1", "epoch": 1, "relay": "relay/1"}
        statistics = run.agent.statistics()
        assert (statistics.session_id, statistics.epoch, statistics.tunnels) == ("ses_1", 1, 1)
        assert (statistics.bytes_in, statistics.bytes_out) == (10, 20)
        assert repr(run.agent) == "<Agent connected [<Connection serving ses_1>]>"


async def test_it_dials_until_it_gets_through_and_tells_each_attempt() -> None:
    async with running(
        FakeDialer(
            failures=[HandshakeFailedError("no route"), HandshakeFailedError("no route"), HandshakeFailedError("x")]
        )
    ) as run:
        await trio.sleep(10)
        assert run.dials == [0, 1, 3, 7]
        assert run.states == ["connecting", "waiting"] * 3 + ["connecting", "connected"]
        assert run.log.events[:3] == ["cannot connect", "retrying", "cannot connect"]
        assert run.log.lines[0][2] == {"reason": "handshake_failed", "detail": "no route"}
        assert run.log.lines[1][2] == {"seconds": 1, "reason": "handshake_failed", "attempt": 1}


async def test_a_lost_tunnel_is_replaced_by_a_new_one() -> None:
    async with running(FakeDialer()) as run:
        await trio.sleep(100)
        run.dialer.tunnels[0].lose(TunnelLostError("the peer is silent", reason="silence"))
        await wait_all_tasks_blocked()
        assert run.agent.statistics().session_id is None
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert run.log.fields("lost") == {"reason": "silence", "detail": "the peer is silent", "lasted": 100}
        assert run.dials == [0, 101]
        assert run.agent.statistics().session_id == "ses_2"
        assert run.agent.statistics().bytes_in == 20, "what the first one carried is forgotten"


async def test_a_tunnel_that_dies_young_does_not_make_it_dial_in_a_tight_loop() -> None:
    async with running(FakeDialer()) as run:
        for _ in range(5):
            run.dialer.tunnels[-1].lose(TunnelLostError("gone"))
            await run.dialer.next_tunnel()
        assert run.dials == [0, 1, 3, 7, 15, 31]


@pytest.mark.parametrize(("status", "reason"), [(401, "session_token_expired"), (403, "revoked")])
async def test_it_stops_when_refused_for_good_and_says_why_and_what_to_do(status: int, reason: str) -> None:
    refusal = HandshakeRefusedError("the token ended on Monday", http_status=status, reason=reason)
    async with running(FakeDialer(failures=[refusal])) as run:
        assert await run.end() == 1
        assert run.log.fields("giving up")["reason"] == reason
        assert run.log.fields("giving up")["detail"] == "the token ended on Monday"
        assert run.log.fields("giving up")["advice"]
        assert ("error", "giving up") in [(level, event) for level, event, _ in run.log.lines]
        assert run.log.fields("stopped") == {"exit_code": 1}
        assert run.dials == [0]


async def test_a_token_renewed_in_the_file_is_used() -> None:
    refusal = HandshakeRefusedError("expired", http_status=401, reason="session_token_expired")
    async with running(FakeDialer(failures=[refusal], changed=True)) as run:
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert run.dials == [0, 1]
        assert run.states[-1] == "connected"


async def test_an_agent_that_was_replaced_does_not_fight() -> None:
    async with running(FakeDialer()) as run:
        for _ in range(4):
            run.dialer.tunnels[-1].lose(TunnelLostError("", reason="replaced", by_peer=True))
            await run.dialer.next_tunnel()
        assert run.dials == [0, 120, 300, 600, 1140]
        assert "another agent" in run.log.fields("replaced")["detail"]
        assert run.log.fields("retrying")["reason"] == "replaced"


async def test_a_drained_tunnel_lives_on_beside_the_next_one() -> None:
    async with serve(echo) as port, running(FakeDialer(), f"web=http://127.0.0.1:{port}?health=off") as run:
        await trio.sleep(100)
        old = run.dialer.tunnels[0]
        request = FakeRequest("web")
        old.handler.service_requested(request)
        await wait_all_tasks_blocked()
        assert request.stream is not None
        old.handler.drain_received(Drain(reconnect_after=5, reason="draining"))
        old.handler.drain_received(Drain(reconnect_after=500, reason="draining"))
        await trio.sleep(5.9)
        assert run.dials == [0]
        await trio.sleep(0.2)
        await wait_all_tasks_blocked()
        assert run.dials == [0, 106]
        assert run.agent.statistics().session_id == "ses_2"
        assert run.agent.statistics().tunnels == 2
        request.stream.sink.data_received(b"still here")
        await wait_all_tasks_blocked()
        assert request.stream.written == b"still here"
        assert not old.closed

        old.lose(TunnelLostError("the relay is gone", reason="draining", by_peer=True))
        request.stream.lose()
        await wait_all_tasks_blocked()
        assert run.log.fields("drained tunnel ended")["reason"] == "draining"
        assert run.agent.statistics().tunnels == 1
        assert run.states[-1] == "connected"
        await trio.sleep(1000)
        assert len(run.dials) == 2, "the end of a drained tunnel is no loss"


async def test_being_replaced_by_its_own_next_tunnel_is_no_fight() -> None:
    async with running(FakeDialer()) as run:
        run.dialer.tunnels[0].handler.drain_received(Drain())
        await trio.sleep(2)
        run.dialer.tunnels[0].lose(TunnelLostError("", reason="replaced", by_peer=True))
        await trio.sleep(1000)
        assert run.dials == [0, 1]
        assert run.states[-1] == "connected"


async def test_a_relay_that_accepts_and_says_nothing_is_left() -> None:
    async with running(FakeDialer(greets=False)) as run:
        await trio.sleep(16.5)
        await wait_all_tasks_blocked()
        assert run.log.fields("lost")["reason"] == "hello_timeout"
        assert run.dials == [0, 16]
        assert "connected" not in run.states


async def test_stop_without_streams_ends_at_once() -> None:
    async with running(FakeDialer()) as run:
        run.agent.stop()
        assert await run.end() == 0
        assert trio.current_time() == run.started_at
        assert run.dialer.tunnels[0].draining
        assert run.dialer.tunnels[0].end is not None
        assert run.dialer.tunnels[0].end.reason == "draining"
        assert run.states[-1] == "stopping"


@pytest.mark.parametrize("failures", [[], [HandshakeFailedError("no route")]])
async def test_stop_while_dialling_or_waiting_ends_at_once(failures: list[HomeportError]) -> None:
    async with running(FakeDialer(hangs=not failures, failures=failures)) as run:
        run.agent.stop()
        assert await run.end() == 0
        assert trio.current_time() == run.started_at


@asynccontextmanager
async def carrying_a_stream() -> AsyncIterator[tuple[Run, FakeTunnel, FakeRequest]]:
    async with serve(echo) as port, running(FakeDialer(), f"web=http://127.0.0.1:{port}?health=off") as run:
        tunnel = run.dialer.tunnels[0]
        request = FakeRequest("web")
        tunnel.streams = 1
        tunnel.handler.service_requested(request)
        await wait_all_tasks_blocked()
        yield run, tunnel, request


async def test_stop_lets_streams_end_and_takes_no_new_ones() -> None:
    async with carrying_a_stream() as (run, tunnel, request):
        run.agent.stop()
        await trio.sleep(20)
        late = FakeRequest("web")
        tunnel.handler.service_requested(late)
        assert late.refused is not None
        assert late.refused[0] == "draining"
        assert request.stream is not None
        request.stream.sink.data_received(b"last words")
        request.stream.sink.eof_received()
        await wait_all_tasks_blocked()
        assert (request.stream.written, request.stream.eof) == (b"last words", True)
        assert run.code is None
        tunnel.streams = 0
        request.stream.end()
        tunnel.look()
        assert await run.end() == 0
        assert trio.current_time() - run.started_at == 20
        assert "cutting streams" not in run.log.events


async def test_the_grace_has_an_end() -> None:
    async with carrying_a_stream() as (run, tunnel, request):
        run.agent.stop()
        assert await run.end() == 0
        assert trio.current_time() - run.started_at == 30
        assert run.log.fields("cutting streams") == {"streams": 1}
        assert tunnel.end is not None
        assert tunnel.end.reason == "draining"
        assert request.stream is not None
        assert request.stream.over


async def test_a_second_stop_ends_the_grace() -> None:
    async with carrying_a_stream() as (run, tunnel, _):
        run.agent.stop()
        await trio.sleep(3)
        run.agent.stop()
        assert await run.end() == 0
        assert trio.current_time() - run.started_at == 3
        assert tunnel.closed


async def test_stop_waits_for_bytes_that_a_service_has_not_taken_yet() -> None:
    async def slow(stream: trio.SocketStream) -> None:
        await stream.send_eof()
        await trio.sleep(10)
        async for _ in stream:
            pass

    async with serve(slow) as port, running(FakeDialer(), f"web=tcp://127.0.0.1:{port}?health=off") as run:
        request = FakeRequest("web")
        run.dialer.tunnels[0].handler.service_requested(request)
        await wait_all_tasks_blocked()
        assert request.stream is not None
        while not request.stream.reading_paused:
            request.stream.sink.data_received(bytes(65536))
        request.stream.sink.eof_received()
        request.stream.end()
        run.agent.stop()
        assert await run.end() == 0
        assert trio.current_time() - run.started_at == 10


async def test_changes_of_health_reach_every_tunnel_and_the_next_hello() -> None:
    async with running(FakeDialer(), "web=http://127.0.0.1:1", "off=tcp://127.0.0.1:1?health=off") as run:
        tunnel = run.dialer.tunnels[0]
        assert tunnel.services[-1] == {"web": Health.UNHEALTHY, "off": Health.UNKNOWN}
        assert run.log.fields("service unhealthy")["service"] == "web"
        tunnel.lose(TunnelLostError("gone"))
        await trio.sleep(2)
        assert run.dialer.tunnels[1].services[-1] == {"web": Health.UNHEALTHY, "off": Health.UNKNOWN}


async def test_figures_are_told_now_and_then() -> None:
    async with running(FakeDialer()) as run:
        await trio.sleep(61)
        stats = run.dialer.tunnels[0].stats
        assert [s.uptime for s in stats] == [30, 60]
        assert (stats[0].bytes_in, stats[0].bytes_out, stats[0].streams) == (10, 20, 0)


async def test_ten_thousand_agents_do_not_come_back_together() -> None:
    rng = random.Random(1)
    delays = []
    for _ in range(50):
        async with running(FakeDialer(failures=[HandshakeFailedError("the relay restarts")]), rng=rng) as run:
            await trio.sleep(1)
            delays.append(run.dials[1])
    assert len(set(delays)) == 50
    assert min(delays) < 0.1
    assert max(delays) > 0.9


async def test_states_are_words() -> None:
    assert {str(state) for state in AgentState} == {"connecting", "connected", "waiting", "stopping"}
