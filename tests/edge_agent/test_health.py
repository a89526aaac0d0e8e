"""Health: when it changes, what is told, and what a check takes for well."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import trio

from common.ids import ServiceName
from common.logging import get_logger
from common.wire.messages import Health, Service
from edge_agent.checks import Check, ConnectCheck, HttpCheck
from edge_agent.errors import TargetError, TargetRefusedError, TargetTimeoutError, UnhealthyError
from edge_agent.health import HealthMonitor, HealthState
from edge_agent.services import Service as LocalService
from edge_agent.services import ServiceKind, ServiceList
from edge_agent.targets import Target, tcp_target, unix_target
from tests.edge_agent.services import Handler, echo, refusing_port, reset, serve

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("well", [True, False])
async def test_the_first_check_decides_at_once(well: bool) -> None:
    state = HealthState(fall=5, rise=5)
    assert state.health is Health.UNKNOWN
    assert state.record(well=well)
    assert state.health is (Health.HEALTHY if well else Health.UNHEALTHY)


async def test_later_ones_decide_in_a_row() -> None:
    state = HealthState(fall=3, rise=2)
    state.record(well=True)
    results = [False, False, True, False, False, False, True, False, True, True]
    changed = [state.record(well=well) for well in results]
    assert changed == [False, False, False, False, False, True, False, False, False, True]
    assert state.health is Health.HEALTHY


class Scripted:
    """A check that fails as told; then it stays as it was last."""

    def __init__(self, results: Iterable[bool]) -> None:
        self._results = iter(results)
        self._last = True
        self.probed_at: list[float] = []

    async def probe(self, target: Target, timeout: float) -> None:
        self.probed_at.append(trio.current_time())
        await trio.sleep(0.1)
        self._last = next(self._results, self._last)
        if not self._last:
            raise TargetRefusedError("nothing listens")


class Latest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def local(name: str, check: Check | None) -> LocalService:
    target = tcp_target("127.0.0.1", 1)
    return LocalService(name=ServiceName(name), kind=ServiceKind.TCP, target=target, check=check)


async def test_changes_are_told_with_the_whole_list() -> None:
    told: list[tuple[float, dict[str, str]]] = []

    def on_change(services: Sequence[Service]) -> None:
        told.append((trio.current_time() - started, {s.name: s.health for s in services}))

    flaky = Scripted([True, False, False, True])
    steady = Scripted([False])
    services = ServiceList([local("flaky", flaky), local("steady", steady), local("unseen", None)])
    monitor = HealthMonitor(
        services,
        interval=10,
        timeout=5,
        fall=2,
        rise=1,
        on_change=on_change,
        logger=get_logger("test"),
        rng=Latest(),
    )
    assert {s.health for s in monitor.report()} == {"unknown"}
    started = trio.current_time()
    with trio.move_on_after(60):
        await monitor.run()
    names = ("flaky", "steady", "unseen")
    healths = [tuple(health[name] for name in names) for _, health in told]
    assert max(healths[:2]) in (("unknown", "unhealthy", "unknown"), ("healthy", "unknown", "unknown"))
    assert healths[1:] == [
        ("healthy", "unhealthy", "unknown"),
        ("unhealthy", "unhealthy", "unknown"),
        ("healthy", "unhealthy", "unknown"),
    ]
    assert [at for at, _ in told] == pytest.approx([0.1, 0.1, 20.3, 30.4])
    assert monitor.health(ServiceName("flaky")) is Health.HEALTHY
    assert flaky.probed_at == pytest.approx([started + 10.1 * i for i in range(6)])


async def test_checks_do_not_keep_step() -> None:
    checks = [Scripted([]) for _ in range(5)]
    services = ServiceList([local(f"s{i}", check) for i, check in enumerate(checks)])
    monitor = HealthMonitor(
        services,
        interval=10,
        timeout=5,
        fall=1,
        rise=1,
        on_change=lambda _: None,
        logger=get_logger("test"),
        rng=random.Random(1),
    )
    with trio.move_on_after(100):
        await monitor.run()
    assert len({check.probed_at[5] for check in checks}) == 5
    gaps = [b - a - 0.1 for check in checks for a, b in zip(check.probed_at, check.probed_at[1:], strict=False)]
    assert min(gaps) >= 9
    assert max(gaps) <= 10


def answering(answer: bytes, *, request: bytearray | None = None) -> Handler:
    async def handle(stream: trio.SocketStream) -> None:
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        if request is not None:
            request.extend(received)
        await stream.send_all(answer)

    return handle


@pytest.mark.parametrize("status", [b"200 OK", b"204", b"301 Moved", b"401 No", b"404 Not Found", b"499 x"])
async def test_a_status_below_500_is_well(status: bytes) -> None:
    async with serve(answering(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as port:
        await HttpCheck("/").probe(tcp_target("127.0.0.1", port), 5)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 500 Oops\r\n\r\n", "status 500"),
        (b"HTTP/1.0 503\n\n", "status 503"),
        (b"", "with HTTP"),
        (b"HTTP/1.1 20", "with HTTP"),
        (b"HTTP/1.1 2000 OK\r\n", "with HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "with HTTP"),
        (b"x" * 100_000, "with HTTP"),
    ],
)
async def test_any_other_answer_is_not(answer: bytes, says: str) -> None:
    async with serve(answering(answer)) as port:
        with pytest.raises(UnhealthyError, match=says):
            await HttpCheck("/healthz").probe(tcp_target("127.0.0.1", port), 5)


async def test_the_request_is_one_that_any_server_takes(tmp_path: Path) -> None:
    request = bytearray()
    async with serve(answering(b"HTTP/1.1 200 OK\r\n\r\n", request=request)) as port:
        await HttpCheck("/healthz?deep=1").probe(tcp_target("127.0.0.1", port), 5)
    assert request == (
        b"GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: homeport-agent\r\n"
        b"Connection: close\r\n\r\n" % port
    )
    request.clear()
    path = tmp_path / "api.sock"
    async with serve(answering(b"HTTP/1.1 200 OK\r\n\r\n", request=request), path=path):
        await HttpCheck("/").probe(unix_target(str(path)), 5)
    assert b"\r\nHost: localhost\r\n" in request


async def test_the_service_can_finish_its_answer() -> None:
    finished = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(30_000))
        await trio.sleep(1)
        await stream.send_all(bytes(30_000))
        await stream.send_eof()
        assert await stream.receive_some() == b""  # the checker's end of file, and no reset
        finished.set()

    async with serve(handle) as port:
        await HttpCheck("/").probe(tcp_target("127.0.0.1", port), 5)
        await finished.wait()


async def test_an_endless_answer_is_cut() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(bytes(16_384))

    async with serve(handle) as port:
        await HttpCheck("/").probe(tcp_target("127.0.0.1", port), 5)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200"])
async def test_silence_is_a_timeout(answer: bytes) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await trio.sleep_forever()

    async with serve(handle) as port:
        started = trio.current_time()
        with pytest.raises(UnhealthyError, match="within 5 s"):
            await HttpCheck("/").probe(tcp_target("127.0.0.1", port), 5)
        assert trio.current_time() - started == pytest.approx(5)


async def test_a_reset_is_unhealthy_before_the_status_and_no_matter_after_it() -> None:
    async def before(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        reset(stream)

    async def after(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        reset(stream)

    async with serve(before) as port:
        with pytest.raises(UnhealthyError, match="broke the connection off"):
            await HttpCheck("/").probe(tcp_target("127.0.0.1", port), 5)
    async with serve(after) as port:
        await HttpCheck("/").probe(tcp_target("127.0.0.1", port), 5)


async def test_connecting_is_enough_for_a_connect_check() -> None:
    async with serve(echo) as port:
        await ConnectCheck().probe(tcp_target("127.0.0.1", port), 5)
    with pytest.raises(TargetRefusedError):
        await ConnectCheck().probe(tcp_target("127.0.0.1", refusing_port()), 5)


async def test_a_check_that_cannot_connect_says_so() -> None:
    with pytest.raises(TargetRefusedError):
        await HttpCheck("/").probe(tcp_target("127.0.0.1", refusing_port()), 5)

    class Hanging:
        async def connect(self) -> None:
            await trio.sleep_forever()

        def __str__(self) -> str:
            return "x:1"

    with pytest.raises(TargetTimeoutError) as caught:
        await HttpCheck("/").probe(Hanging(), 5)  # type: ignore[arg-type]
    assert isinstance(caught.value, TargetError)
