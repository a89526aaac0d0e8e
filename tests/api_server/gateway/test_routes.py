"""From host and path to a service of a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway import Route, RoutedTarget, ServiceTarget
from api_server.gateway.device_streams import DeviceStreams
from api_server.gateway.errors import BadPathError
from api_server.gateway.paths import check_path, split_target
from api_server.gateway.routes import DeviceRouter, NoRoutes
from api_server.relay import ServiceDialer
from common.ids import ServiceName, TeamId, is_name
from tests.api_server.gateway.stage import Stage, answering, ok, request_head
from tests.api_server.gateway.streams import NO_STREAMS, no_streams

name = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)


def router(domain: str | None = None) -> DeviceRouter:
    return DeviceRouter(domain=domain, streams=no_streams, others=NoRoutes())


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        (b"/d/home/cam/web", b""),
        (b"/d/home/cam/web/", b"/"),
        (b"/d/home/cam/web/a/b", b"/a/b"),
        (b"/d/home/cam/web/d/other/cam/web", b"/d/other/cam/web"),
    ],
)
def test_by_path(path: bytes, rest: bytes) -> None:
    found = router()
    for _ in range(2):
        route = found.route(b"gw", path)
        target = ServiceTarget(TeamId("home"), "cam", ServiceName("web"), False, b"/d/home/cam/web", NO_STREAMS)
        assert route == Route(target, rest)
        assert target.realm == "homeport home/cam/web"


def test_raw() -> None:
    for path in (b"/t/home/cam/ssh", b"/t/home/cam/ssh/"):
        route = router().route(b"gw", path)
        assert route is not None
        assert route.target.raw
    assert router().route(b"gw", b"/t/home/cam/ssh/x") is None


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/d",
        b"/d/a/b",
        b"/D/a/b/c",
        b"/d/a/b/c_d",
        b"/d/a/b/c%2d",
        b"/d/a/b/-c",
        b"/d/a--b/c/d",
        b"/d/a/b/c.d/e",
        b"/x/d/a/b/c",
    ],
)
def test_no_route(path: bytes) -> None:
    assert router().route(b"gw", path) is None


@pytest.mark.parametrize(
    ("host", "found"),
    [
        (b"web--cam--home.example.org", True),
        (b"WEB--Cam--home.Example.org:8080", True),
        (b"web--cam--home.example.org.", True),
        (b"web-1--cam-2--home-3.example.org", True),
        (b"cam--home.example.org", False),
        (b"web--cam--home--x.example.org", False),
        (b"a.web--cam--home.example.org", False),
        (b"web---cam--home.example.org", False),
        (b"w" * 41 + b"--cam--home.example.org", False),
    ],
)
def test_by_host(host: bytes, found: bool) -> None:
    route = router("example.org").route(host, b"/d/other/other/other/")
    assert (route is not None) is found
    if route is not None:
        assert route.path == b"/d/other/other/other/"
        assert route.target.prefix == b""


@pytest.mark.parametrize(
    "host", [b"example.org", b"web--cam--home.other.org", b"web--cam--home.badexample.org", b"gw:80"]
)
def test_other_hosts_go_by_path(host: bytes) -> None:
    route = router("example.org").route(host, b"/d/home/cam/web/")
    assert route is not None
    assert route.target.prefix == b"/d/home/cam/web"


@given(team=name, device=name, service=name)
def test_names_that_are_names_are_found_either_way(team: str, device: str, service: str) -> None:
    both = router("example.org")
    by_path = both.route(b"gw", f"/d/{team}/{device}/{service}/x".encode())
    by_host = both.route(f"{service}--{device}--{team}.example.org".encode(), b"/x")
    for route in (by_path, by_host):
        assert route is not None
        assert (route.target.team, route.target.device, route.target.service, route.path) == (
            team,
            device,
            service,
            b"/x",
        )


@given(parts=st.lists(st.text(alphabet="abz09-_.%/", min_size=0, max_size=12), min_size=3, max_size=3))
def test_whatever_is_found_is_a_name(parts: list[str]) -> None:
    route = router().route(b"gw", "/d/{}/{}/{}/".format(*parts).encode())
    if route is not None:
        assert all(is_name(part) for part in (route.target.team, route.target.device, route.target.service))


def test_what_is_remembered_is_bounded() -> None:
    one = router()
    for number in range(10_000):
        assert one.route(b"gw", b"/d/home/cam-%d/web" % number) is not None
    assert len(one) <= 4096


@given(path=st.binary(max_size=40))
def test_a_path_that_is_let_through_means_one_thing(path: bytes) -> None:
    path = b"/" + path
    try:
        check_path(path)
    except BadPathError:
        return
    lower = path.lower()
    assert not any(trick in lower for trick in (b"//", b"%2f", b"%5c", b"\\", b"%00", b"\r", b"\n", b" ", b"#"))
    segments = lower.replace(b"%2e", b".").split(b"/")
    assert not any(segment.partition(b";")[0] in (b".", b"..") for segment in segments)


@given(target=st.binary(max_size=60))
def test_a_target_is_taken_apart_without_loss_or_refused(target: bytes) -> None:
    try:
        parts = split_target(target)
    except BadPathError:
        return
    query = b"" if parts.query is None else b"?" + parts.query
    if parts.authority is None:
        assert parts.path + query == target
    else:
        assert target.endswith(parts.path.removeprefix(b"/") + query)


class OneRoute:
    """A route table with one entry."""

    def __init__(self, dialer: ServiceDialer) -> None:
        self._streams = DeviceStreams(dialer, TeamId("home"), "cam", ServiceName("web"))

    def route(self, host: bytes, path: bytes) -> Route | None:
        if not path.startswith(b"/cameras/"):
            return None
        target = RoutedTarget(
            team=TeamId("home"),
            name="cameras",
            route_id="rte_0",
            tags=frozenset(),
            prefix=b"/cameras",
            streams=self._streams,
        )
        return Route(target, path.removeprefix(b"/cameras"))


@pytest.mark.anyio
async def test_a_route_table_is_asked_about_every_other_path() -> None:
    async with Stage(router=OneRoute, web=answering(ok(b"routed"))) as stage:
        client = await stage.connect()
        await client.send(request_head().replace("/d/home/cam/web/", "/cameras/front"))
        assert (await client.reply()).body == b"routed"
        await client.send(request_head().replace("/d/home/cam/web/", "/other"))
        assert (await client.reply()).code == "no_route"
        assert (await client.get()).body == b"routed"
