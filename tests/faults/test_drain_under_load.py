"""SIGTERM under load: what is under way ends whole when the grace allows, else with a reset and the right code."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from homeport.demo.keystream import keystream
from tests.faults.cluster import ALL, Cluster, wait_for
from tests.faults.load import Load

EVENTS = 600 if ALL else 30
"""Of a stream of ten a second: a minute in `make faults`."""
DOWNLOAD = 1024**3 if ALL else 64 * 1024**2
GRACE = 120.0 if ALL else 60.0
GONE = {"502 device_offline", "503 draining", "refused"}

CUT = {"reset", "cut"}


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the download."""
    whole = hashlib.sha256()
    for piece in keystream(0, DOWNLOAD):
        whole.update(piece)
    return whole.hexdigest()


class Long:
    """One event stream and one download that are under way when a drain begins.

    Args:
        gateway: which one they go through.
    """

    def __init__(self, cluster: Cluster, gateway: int) -> None:
        self._base = f"{cluster.gateways[gateway]}/d/{cluster.keys.team}/cam/web"
        self._headers = {"Authorization": f"Bearer {cluster.keys.admin_token}"}
        self._begun = [threading.Event(), threading.Event()]
        self.events = 0
        self.digest = ""
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(self._read_events,)),
            threading.Thread(target=self._run, args=(self._download,)),
        ]
        for thread in self._threads:
            thread.start()
        for begun in self._begun:
            assert begun.wait(60)

    def join(self) -> None:
        """Wait for both."""
        for thread in self._threads:
            thread.join(GRACE + 60)
            assert not thread.is_alive(), "it hangs"

    def _run(self, what: object) -> None:
        try:
            what()  # type: ignore[operator]
        except httpx.HTTPError as exc:
            self.errors.append(f"{type(exc).__name__}: {exc}")

    def _read_events(self) -> None:
        with httpx.stream("GET", f"{self._base}/clock", headers=self._headers, timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    assert int(line[4:]) == self.events
                    self.events += 1
                    self._begun[0].set()
                if self.events == EVENTS:
                    return

    def _download(self) -> None:
        digest = hashlib.sha256()
        url = f"{self._base}/bytes/{DOWNLOAD}"
        with httpx.stream("GET", url, headers=self._headers, timeout=60, trust_env=False) as answer:
            for piece in answer.iter_raw():
                digest.update(piece)
                self._begun[1].set()
                if not ALL:
                    time.sleep(0.001)  # so that it is under way when the drain begins
        self.digest = digest.hexdigest()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    grace = {"HOMEPORT_DRAIN_GRACE": f"{GRACE}s"}
    relay = {**grace, "HOMEPORT_HANDOVER_TIMEOUT": "60s"}
    folder = tmp_path_factory.mktemp("drain")
    with Cluster(folder, relay_settings=relay, api_settings=grace, agent_settings=grace) as cluster:
        yield cluster


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    """Small requests of clients that go to the other gateway when theirs is gone, as behind a load balancer."""
    with cluster.load() as load:
        first, second = cluster.gateways
        load.small("api0", first, "cam", others=[second])
        load.small("api1", second, "cam", others=[first])
        load.small("api1", second, "door", others=[first])
        load.wait_all_well()
        yield load


def test_an_api_server_drains(cluster: Cluster, load: Load, digest: str) -> None:
    long = Long(cluster, 0)
    mark = load.mark()
    process = cluster.apis[0].process
    process.signal(signal.SIGTERM)
    long.join()
    assert (long.errors, long.events, long.digest) == ([], EVENTS, digest)
    assert process.wait(seconds=GRACE) == 0
    cluster.apis[0].start()
    load.wait_all_well()
    assert load.since(mark).failures == []


def test_a_relay_drains_and_hands_over(cluster: Cluster, load: Load, digest: str) -> None:
    long = Long(cluster, 0)
    mark = load.mark()
    old = cluster.relay.process
    cluster.relay.start_beside(lambda: old.signal(signal.SIGTERM))
    load.wait_all_well()
    assert load.since(mark).failures == []
    assert set(cluster.sessions()) == {"cam", "door"}, "they are at the new relay, while the old one still carries"
    long.join()
    assert (long.errors, long.events, long.digest) == ([], EVENTS, digest)
    assert old.wait(seconds=GRACE) == 0
    load.wait_all_well()
    assert load.since(mark).failures == []


def test_an_agent_drains_while_another_one_takes_over(cluster: Cluster, load: Load, digest: str) -> None:
    """As an upgrade does it that starts the new one first."""
    long = Long(cluster, 0)
    mark = load.mark()
    old = cluster.agents["cam"].process
    epoch = cluster.sessions()["cam"]["epoch"]
    cluster.agents["cam"].start()
    wait_for(lambda: cluster.sessions()["cam"]["epoch"] != epoch, "taken over")
    old.signal(signal.SIGTERM)
    load.wait_all_well()
    long.join()
    assert (long.errors, long.events, long.digest) == ([], EVENTS, digest)
    assert old.wait(seconds=GRACE) == 0
    load.wait_all_well()
    assert load.since(mark).failures == []


@pytest.mark.parametrize("who", ["relay", "api", "agent"] if ALL else ["relay"])
def test_when_the_grace_is_over_streams_are_reset(tmp_path: Path, who: str) -> None:
    short = {"HOMEPORT_DRAIN_GRACE": "0.5s"}
    with (
        Cluster(
            tmp_path, devices=("cam",), apis=1, relay_settings=short, api_settings=short, agent_settings=short
        ) as cluster,
        cluster.load() as load,
    ):
        for _ in range(2):
            load.events("api0", cluster.gateways[0], "cam", number=1_000_000)
            load.raw_tcp("api0", cluster.gateways[0], "cam", messages=1_000_000)
        load.download("api0", cluster.gateways[0], "cam", 10_000)
        load.wait(lambda report: report.of("download").ok > 2, "under way")
        slot = {"relay": cluster.relay, "api": cluster.apis[0], "agent": cluster.agents["cam"]}[who]
        mark = load.mark()
        slot.process.signal(signal.SIGTERM)
        # Each is told, and by a reset: a body that just ends could be taken for a whole one.
        for kind in ("events", "raw_tcp"):
            report = load.wait(lambda report, kind=kind: len(report.of(kind).failures) >= 2, "told", since=mark)
            first = [each.result for each in report.of(kind).outcomes[:2]]
            assert first == ["reset", "reset"], kind
        assert slot.process.wait(seconds=60) == 0
        slot.start()
        load.wait(lambda report: report.of("download").ok > 2, "well again", since=load.mark())
        assert set(load.since(mark).of("download").results()) <= {"ok", "502 relay_unavailable", *GONE, *CUT}
