"""What the limiter decides, without a clock of its own, a network or a database (T4, G5)."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from api_server.limits.errors import QuotaExceededError, TooManyOpensError, TooManyStreamsError
from api_server.limits.headers import rate_limit_fields, refusal_fields
from api_server.limits.limiter import Limiter, key_of
from api_server.limits.meters import Meter, MeterTable
from api_server.limits.metrics import LimitMetrics
from api_server.limits.parts import LocalParts
from api_server.limits.records import Defaults, Limits, Rate, SubjectKind, merge
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio


class Bench:
    """A limiter that counts for itself."""

    def __init__(self) -> None:
        self.clock, self.registry = FakeClock(), CollectorRegistry()
        self.limiter = Limiter(self.clock, LimitMetrics(self.registry))

    def set(self, defaults: Defaults | None = None, **own: Limits) -> None:
        """Own limits are named `token_x`, `team_home`, ..."""
        book = {}
        for name, limits in own.items():
            kind, _, subject = name.partition("_")
            book[SubjectKind(kind), subject if kind == "team" else key_of("home", subject)] = limits
        self.limiter.apply(defaults if defaults is not None else Defaults(), book)

    def meters(self, token: str = "a", *, team: str = "home", address: str = "192.0.2.1") -> list[Meter]:
        return self.limiter.subjects(team=team, token=token, route="r", address=address, device="cam")

    def request(self, token: str = "a", *, team: str = "home", address: str = "192.0.2.1") -> str | None:
        """None when it passes, else whose quota refuses it."""
        try:
            assert self.limiter.request(self.meters(token, team=team, address=address))
        except QuotaExceededError as exc:
            return exc.kind.value
        return None


def rate(quota: int, window: int = 60) -> Limits:
    return Limits(requests=Rate(quota=quota, window=window))


def test_nothing_is_asked_of_anybody_without_limits() -> None:
    bench = Bench()
    assert bench.limiter.idle
    assert bench.meters() == []
    bench.set(token_a=rate(1))
    assert not bench.limiter.idle
    bench.set()
    assert bench.limiter.idle


@pytest.mark.parametrize("kind", ["team", "token", "route", "address", "device"])
def test_t4_each_kind_of_subject_has_its_own_quota(kind: str) -> None:
    bench = Bench()
    bench.set(Defaults(**{kind: rate(2)}))
    assert [bench.request() for _ in range(3)] == [None, None, kind]
    others = {"token": "b", "address": "192.0.2.2", "team": "away"}
    if kind in ("team", "route", "device"):
        assert bench.request(team="away") is None  # a route or device of that name is another team's
    else:
        assert bench.request(**{kind: others[kind]}) is None


def test_t4_an_own_limit_stands_in_for_the_default_and_no_other_team_has_it() -> None:
    bench = Bench()
    bench.set(Defaults(token=rate(1)), token_a=rate(3))
    assert [bench.request() for _ in range(4)] == [None, None, None, "token"]
    assert [bench.request("b"), bench.request("b")] == [None, "token"]
    assert [bench.request(team="away"), bench.request(team="away")] == [None, "token"]


def test_t4_a_refused_request_uses_up_nothing() -> None:
    bench = Bench()
    bench.set(team_home=rate(2), token_a=rate(1))
    assert [bench.request("a"), bench.request("a"), bench.request("a")] == [None, "token", "token"]
    assert [bench.request("b"), bench.request("b")] == [None, "team"]
    # What the token's quota had counted before the team's refused it was given back: its next one may pass.
    bench.clock.advance(120)
    assert bench.request("b") is None
    assert [bench.request("b"), bench.request("a")] == [None, "team"]
    bench.clock.advance(120)
    assert bench.request("a") is None


def test_t4_an_ipv6_address_counts_as_its_subscriber() -> None:
    bench = Bench()
    bench.set(Defaults(address=rate(1)))
    assert bench.request(address="2001:db8:0:1::1") is None
    assert bench.request(address="2001:db8:0:1::2") == "address"
    assert bench.request(address="2001:db8:0:2::1") is None
    assert bench.request(address="::ffff:192.0.2.1") is None
    assert bench.request(address="192.0.2.1") == "address"


def test_a_change_is_in_effect_for_the_next_request_and_what_stays_stays_counted() -> None:
    bench = Bench()
    bench.set(token_a=Limits(requests=Rate(quota=1, window=60), streams=1))
    assert [bench.request(), bench.request()] == [None, "token"]
    bench.set(token_a=Limits(requests=Rate(quota=1, window=60), streams=9))
    assert bench.request() == "token"
    bench.set(token_a=rate(5))
    assert bench.request() is None
    bench.set(Defaults(team=rate(1)))
    assert [bench.request(), bench.request()] == [None, "team"]


def test_g5_streams_at_a_time() -> None:
    bench = Bench()
    bench.set(Defaults(device=Limits(streams=2), team=Limits(streams=3)))
    first, second = bench.meters(), bench.meters()
    bench.limiter.begin(first)
    bench.limiter.begin(second)
    with pytest.raises(TooManyStreamsError, match="the device may have 2"):
        bench.limiter.begin(bench.meters())
    bench.limiter.end(first)
    bench.limiter.begin(bench.meters())
    assert [meter.streams for meter in bench.meters()] == [2, 2]
    assert bench.registry.get_sample_value("homeport_limits_refused_total", {"kind": "device", "limit": "streams"}) == 1


def test_what_a_limit_of_streams_refuses_uses_up_no_quota() -> None:
    bench = Bench()
    bench.set(Defaults(token=Limits(requests=Rate(quota=2, window=60), streams=1)))
    assert bench.limiter.begin(bench.meters())
    for _ in range(3):
        with pytest.raises(TooManyStreamsError):
            bench.limiter.begin(bench.meters())
    assert bench.request() is None
    assert bench.request() == "token"


async def test_g5_opens_a_second() -> None:
    bench = Bench()
    bench.set(Defaults(token=Limits(opens_per_second=2)))
    await bench.limiter.wait_open(bench.meters())
    await bench.limiter.wait_open(bench.meters())
    with pytest.raises(TooManyOpensError) as caught:
        await bench.limiter.wait_open(bench.meters())
    assert caught.value.retry_after == pytest.approx(0.5)
    bench.clock.advance(0.5)
    await bench.limiter.wait_open(bench.meters())


async def test_g5_an_open_that_is_refused_uses_up_nothing() -> None:
    bench = Bench()
    bench.set(Defaults(token=Limits(opens_per_second=2), team=Limits(opens_per_second=1)))
    await bench.limiter.wait_open(bench.meters())
    for _ in range(3):
        with pytest.raises(TooManyOpensError, match="the team may open 1"):
            await bench.limiter.wait_open(bench.meters())
    await bench.limiter.wait_open(bench.meters(team="away"))


def test_the_fields_of_an_answer() -> None:
    bench = Bench()
    bench.set(Defaults(token=rate(5, 10), team=rate(100)))
    bench.request()
    assert rate_limit_fields(bench.limiter.standings(bench.meters())) == {
        "RateLimit-Policy": '"token";q=5;w=10, "team";q=100;w=60',
        "RateLimit": '"token";r=4;t=0, "team";r=99;t=0',
    }
    while not (kind := bench.request()):
        pass
    assert kind == "token"
    with pytest.raises(QuotaExceededError) as caught:
        bench.limiter.request(bench.meters())
    assert refusal_fields(caught.value) == {"RateLimit-Policy": '"token";q=5;w=10', "RateLimit": '"token";r=0;t=11'}
    assert caught.value.problem()["violated-policies"] == ["token"]
    assert rate_limit_fields([]) == {}


def test_a_null_means_the_default() -> None:
    own, default = Limits(streams=3), Limits(streams=5, max_body_bytes=7)
    assert merge(own, default) == Limits(streams=3, max_body_bytes=7)
    assert merge(None, default) == default


def test_the_table_of_meters_is_bounded_and_keeps_what_is_under_way() -> None:
    table = MeterTable(most=3)

    def make(name: str) -> Meter:
        return table.find(name) or table.add(
            Meter(SubjectKind.ADDRESS, name, Limits(), LocalParts(FakeClock().monotonic))
        )

    make("busy").streams = 1
    for number in range(100):
        make(f"address-{number}")
    assert len(table) == 3
    assert make("busy").streams == 1
