"""One process is killed at a time, under every kind of traffic: who is hurt, how they are told, and when it is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.cluster import ALL, Cluster, wait_for
from tests.faults.light_agents import LightAgents, light_agents, session_tokens
from tests.faults.load import Load

DEAD_AFTER = 15.0 if ALL else 3.0
STOPPED = 30.0 if ALL else 4.0
"""Seconds that a process is stopped: longer than DEAD_AFTER."""
LIGHT = 200 if ALL else 40
RETRY_BASE, RETRY_MAXIMUM = 0.5, 4.0

CUT = {"reset", "cut", "502 stream_reset"}
"""What a client sees of a stream that was lost on the way."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    relay = {"HOMEPORT_DEAD_AFTER": f"{DEAD_AFTER}s", "HOMEPORT_PROBE_INTERVAL": f"{DEAD_AFTER / 4}s"}
    with Cluster(tmp_path_factory.mktemp("kills"), relay_settings=relay) as cluster:
        yield cluster


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    """Everything, by both API servers, to both devices; all of it is well when the test begins."""
    with cluster.load() as load:
        for number, gateway in enumerate(cluster.gateways):
            load.everything(f"api{number}", gateway, "cam")
            load.small(f"api{number}", gateway, "door")
        load.wait_all_well(each=1)
        yield load


def test_a_killed_api_server_hurts_nobody_else(cluster: Cluster, load: Load) -> None:
    sessions = {name: session["id"] for name, session in cluster.sessions().items()}
    mark = load.mark()
    cluster.apis[0].kill()
    load.wait(lambda report: report.of(gateway="api0").failures, "noticed", since=mark)
    cluster.apis[0].start()
    report = load.wait_all_well(since=load.mark())
    report = load.since(mark)
    assert report.of(gateway="api1").failures == []
    assert set(report.of(gateway="api0").results()) <= {"ok", "refused", *CUT}
    assert {name: session["id"] for name, session in cluster.sessions().items()} == sessions


def test_a_killed_agent_is_offline_at_once_and_back_when_it_is_started(cluster: Cluster, load: Load) -> None:
    mark = load.mark()
    cluster.agents["cam"].kill()
    took = wait_for(lambda: "cam" not in cluster.sessions(), "noticed by the relay")
    assert took < DEAD_AFTER  # the kernel of a machine that lives on says so; it is not silence that tells
    wait_for(lambda: cluster.code("cam") == "device_offline", "said to be offline")
    cluster.agents["cam"].start()
    load.wait_all_well()
    report = load.since(mark)
    assert report.of(device="door").failures == []
    assert set(report.of(device="cam").results()) <= {"ok", "502 device_offline", *CUT}


def test_an_agent_that_stops_in_order_is_offline_at_once(cluster: Cluster, load: Load) -> None:
    mark = load.mark()
    cluster.agents["door"].process.signal(signal.SIGTERM)
    wait_for(lambda: cluster.code("door") == "device_offline", "said to be offline")
    assert cluster.agents["door"].process.wait() == 0
    cluster.agents["door"].start()
    load.wait_all_well()
    assert load.since(mark).of(device="cam").failures == []
    assert set(load.since(mark).of(device="door").results()) <= {"ok", "502 device_offline", "503 draining"}


def test_agents_are_back_within_their_back_off_after_a_relay_was_killed(cluster: Cluster, load: Load) -> None:
    tokens = session_tokens(cluster.keys, [f"light-{number}" for number in range(LIGHT)])
    pauses = {"base": RETRY_BASE, "maximum": RETRY_MAXIMUM}
    with light_agents(cluster.relay.now.tunnel, tokens, cluster.folder, **pauses) as light:
        light.wait_connected(LIGHT)
        mark = load.mark()
        killed = time.monotonic()
        cluster.relay.kill()
        light.wait_lost(LIGHT)
        cluster.relay.start()
        ready = time.monotonic()
        light.wait_connected(LIGHT)
        assert_spread(light, killed, ready)
        load.wait_all_well()
        wait_for(lambda: len(cluster.sessions()) == LIGHT + 2, "back, all of them")
    report = load.since(mark)
    # What the gateway could not hold back: it was under way, or the relay was away for too long.
    assert set(report.results()) <= {"ok", "502 relay_unavailable", "502 device_offline", *CUT}


def assert_spread(light: LightAgents, killed: float, ready: float) -> None:
    """All came back within one back-off of the relay's return, and not in one moment."""
    back = sorted(each.ended for each in light.history() if each.outcome == "connected" and each.ended >= killed)
    assert len(back) == LIGHT
    # The longest pause that one may have been in, and a busy machine.
    assert back[-1] - ready < 2 * RETRY_MAXIMUM + 30
    busiest = max(sum(moment <= other < moment + 0.05 for other in back) for moment in back)
    assert busiest <= LIGHT / 2, f"{busiest} of {LIGHT} came back within 50 ms"


@pytest.mark.parametrize("who", ["relay", "api", "agent"] if ALL else ["agent"])
def test_a_process_that_hangs_and_goes_on(cluster: Cluster, load: Load, who: str) -> None:
    """SIGSTOP stands for a machine that swaps, or is suspended: connections stay open and nobody answers."""
    process = {
        "relay": cluster.relay.process,
        "api": cluster.apis[0].process,
        "agent": cluster.agents["cam"].process,
    }[who]
    epoch = cluster.sessions()["cam"]["epoch"]
    mark = load.mark()
    process.signal(signal.SIGSTOP)
    began = time.monotonic()
    if who == "agent":
        wait_for(lambda: cluster.code("cam", gateway=1) == "device_offline", "found dead", seconds=DEAD_AFTER + 30)
        assert time.monotonic() - began > DEAD_AFTER / 2  # by its silence, and by nothing else
    elif who == "api":
        load.wait(lambda report: report.of(gateway="api1").ok > 50, "going on through the other", since=mark)
    wait_for(lambda: time.monotonic() - began > STOPPED, "stopped for long enough")
    during = load.since(mark)
    process.signal(signal.SIGCONT)
    load.wait_all_well(seconds=90)
    report = load.since(mark)
    if who == "agent":
        assert cluster.sessions()["cam"]["epoch"] > epoch
        assert during.of(device="door").failures == []
        assert set(report.of(device="cam").results()) <= {"ok", "502 device_offline", "504 service_timeout", *CUT}
    elif who == "api":
        assert report.of(gateway="api1").failures == []
        assert report.of(gateway="api0").failures == [], "it was slow, and lost nothing"
    else:
        gone = {"502 device_offline", "502 relay_unavailable", "504 service_timeout"}
        assert set(report.results()) <= {"ok", *gone, *CUT}
