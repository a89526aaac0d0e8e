"""Requests of the relay against the list of services."""

from __future__ import annotations

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.ids import ServiceName
from edge_agent.dispatch import Dispatcher
from edge_agent.services import Service, ServiceKind, ServiceList
from tests.edge_agent.fakes import FakeRequest
from tests.edge_agent.services import echo, listening_on, refusing_port, serve

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def dispatcher(*specs: str, max_streams: int = 100) -> AsyncIterator[Dispatcher]:
    async with trio.open_nursery() as nursery:
        yield Dispatcher(ServiceList.parse(specs), nursery, max_streams=max_streams)
        nursery.cancel_scope.cancel()


async def test_a_service_on_the_list_is_connected_to() -> None:
    async with serve(echo) as port, dispatcher(f"web=http://127.0.0.1:{port}") as dispatch:
        request = FakeRequest("web")
        dispatch.handle(request)
        await wait_all_tasks_blocked()
        assert request.stream is not None
        assert dispatch.statistics().streams == 1
        request.stream.sink.data_received(b"hello")
        request.stream.sink.eof_received()
        await wait_all_tasks_blocked()
        assert (request.stream.written, request.stream.eof) == (b"hello", True)
        request.stream.end()
        await dispatch.wait_idle()
        statistics = dispatch.statistics()
        assert (statistics.streams, statistics.accepted, statistics.refused) == (0, 1, 0)


@pytest.mark.parametrize(
    "name", ["ssh", "", "127.0.0.1:22", "tcp://127.0.0.1:22", "WEB", "web\n", "../web", "x" * 5000]
)
async def test_nothing_else_is_whatever_the_relay_asks_for(name: str) -> None:
    async with serve(echo) as port, dispatcher(f"web=http://127.0.0.1:{port}") as dispatch:
        request = FakeRequest(name)
        dispatch.handle(request)
        # At once: nothing was tried.
        assert request.refused is not None
        code, detail = request.refused
        assert code == "unknown_service"
        assert len(detail) < 100
        assert dispatch.statistics().streams == 0


async def test_a_service_that_is_down_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "full.sock"
    specs = (
        f"down=http://127.0.0.1:{refusing_port()}",
        f"full=unix://{path}?connect_timeout=2",
        "bad=tcp://[fe80::1%25nowhere]:1",
    )
    async with listening_on(path, 0), dispatcher(*specs, f"filler=unix://{path}") as dispatch:
        filler = FakeRequest("filler")
        dispatch.handle(filler)
        await wait_all_tasks_blocked()
        for name, expected in (("down", "connection_refused"), ("full", "timeout")):
            started = trio.current_time()
            request = FakeRequest(name)
            dispatch.handle(request)
            while request.refused is None:
                await trio.sleep(0.1)
            assert request.refused[0] == expected
            assert trio.current_time() - started <= 2.2
        assert filler.stream is not None


async def test_the_relays_deadline_counts_when_it_is_earlier(tmp_path: Path) -> None:
    path = tmp_path / "full.sock"
    async with listening_on(path, 0), dispatcher(f"full=unix://{path}?connect_timeout=30") as dispatch:
        dispatch.handle(FakeRequest("full"))
        await wait_all_tasks_blocked()
        request = FakeRequest("full", timeout=1)
        dispatch.handle(request)
        await trio.sleep(1.1)
        assert request.refused is not None
        assert request.refused[0] == "timeout"


async def test_a_request_that_the_relay_gave_up_is_not_answered(tmp_path: Path) -> None:
    path = tmp_path / "full.sock"
    async with listening_on(path, 0), dispatcher(f"full=unix://{path}") as dispatch:
        taken = FakeRequest("full")
        dispatch.handle(taken)
        await wait_all_tasks_blocked()
        request = FakeRequest("full")
        dispatch.handle(request)
        await wait_all_tasks_blocked()
        request.give_up()
        await wait_all_tasks_blocked()
        assert (request.stream, request.refused) == (None, None)
        statistics = dispatch.statistics()
        assert (statistics.streams, statistics.abandoned) == (1, 1)


class LostWhenReached:
    """A target that is reached in the same turn in which the relay is lost."""

    def __init__(self, request: FakeRequest) -> None:
        self._request = request
        self.service: socket.socket

    async def connect(self) -> socket.socket:
        near, self.service = socket.socketpair()
        near.setblocking(False)
        self._request.give_up()
        return near


async def test_a_request_that_is_lost_as_its_service_is_reached_leaves_nothing() -> None:
    """Its connection to the service, and the task that waits for it, stayed for as long as the service was silent."""
    request = FakeRequest("web")
    target = LostWhenReached(request)
    service = Service(name=ServiceName("web"), kind=ServiceKind.TCP, target=target, check=None, connect_timeout=3.0)
    async with trio.open_nursery() as nursery:
        dispatch = Dispatcher(ServiceList([service]), nursery, max_streams=10)
        dispatch.handle(request)
        with trio.fail_after(30):
            await dispatch.wait_idle()
        assert (request.stream, request.refused) == (None, None)
        statistics = dispatch.statistics()
        assert (statistics.accepted, statistics.abandoned) == (0, 1)
        with target.service:
            assert target.service.recv(1) == b"", "the service is told"


async def test_streams_have_a_limit_and_a_place_is_free_again_after_one_ends() -> None:
    async with serve(echo) as port, dispatcher(f"web=http://127.0.0.1:{port}", max_streams=2) as dispatch:
        requests = [FakeRequest("web") for _ in range(3)]
        for request in requests:
            dispatch.handle(request)
        await wait_all_tasks_blocked()
        assert [request.stream is not None for request in requests] == [True, True, False]
        assert requests[2].refused == ("over_capacity", "the agent carries 2 streams, which is its limit")
        assert requests[0].stream is not None
        requests[0].stream.lose()
        await wait_all_tasks_blocked()
        again = FakeRequest("web")
        dispatch.handle(again)
        await wait_all_tasks_blocked()
        assert again.stream is not None


async def test_running_out_of_descriptors_refuses_and_harms_no_other_stream() -> None:
    async with serve(echo) as port, dispatcher(f"web=http://127.0.0.1:{port}") as dispatch:
        before = FakeRequest("web")
        dispatch.handle(before)
        await wait_all_tasks_blocked()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))  # no new one; those that are open stay
        try:
            request = FakeRequest("web")
            dispatch.handle(request)
            await wait_all_tasks_blocked()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert request.refused is not None
        assert request.refused[0] == "over_capacity"
        assert before.stream is not None
        before.stream.sink.data_received(b"still here")
        await wait_all_tasks_blocked()
        assert before.stream.written == b"still here"


async def test_after_stop_every_request_is_refused_and_streams_go_on() -> None:
    async with serve(echo) as port, dispatcher(f"web=http://127.0.0.1:{port}") as dispatch:
        before = FakeRequest("web")
        dispatch.handle(before)
        await wait_all_tasks_blocked()
        dispatch.stop()
        late = FakeRequest("web")
        dispatch.handle(late)
        assert late.refused is not None
        assert late.refused[0] == "draining"
        assert before.stream is not None
        before.stream.sink.data_received(b"go on")
        await wait_all_tasks_blocked()
        assert before.stream.written == b"go on"

        idle = False

        async def wait() -> None:
            nonlocal idle
            await dispatch.wait_idle()
            idle = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not idle
            before.stream.lose()
        assert idle
