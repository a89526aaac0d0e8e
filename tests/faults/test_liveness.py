"""A dead peer is found within `dead_after`, idle or busy, by either end; a busy line is never taken for a dead one.

Real processes with a proxy between them. The agent's own `dead_after` is 15 s and no setting: so long it takes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.cluster import ALL, Cluster, wait_for
from tests.faults.test_takeover import Lines

DEAD_AFTER = 15.0
MARGIN = 45.0
"""Seconds that a busy machine may take beyond it. Too early is the other failure, and needs none."""
SATURATED = 60.0 if ALL else 18.0
"""Seconds: longer than `dead_after`, or it would prove nothing."""

DEVICES = (
    tuple(f"{load}-{way}" for load in ("idle", "busy") for way in ("up", "down", "both"))
    if ALL
    else ("idle-down", "busy-up", "busy-both")
)
"""How each is used, and which way its line is dead."""


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


def reasons(log: Path, event: str, **fields: str) -> list[str]:
    """Why something ended, each time, by the log of a process."""
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    wanted = {"event": event, **fields}.items()
    return [str(entry["reason"]) for entry in entries if wanted <= entry.items()]


def lost_by_agent(cluster: Cluster, device: str) -> list[str]:
    """Why the agent lost its tunnels."""
    return reasons(cluster.agents[device].process.log, "lost")


def lost_by_relay(cluster: Cluster, device: str) -> list[str]:
    """Why the relay ended the device's sessions."""
    return reasons(cluster.relay.process.log, "session offline", device=device)


def test_a_dead_line_is_found_by_both_ends(tmp_path: Path, lines: Lines) -> None:
    """Devices at once: idle and busy, their line dead one way, the other way, or both ways."""
    agent = {"HOMEPORT_RETRY_BASE": "1h", "HOMEPORT_RETRY_MAXIMUM": "1h"}  # so that none comes back
    with (
        Cluster(tmp_path, devices=DEVICES, apis=1, tunnel=lines, agent_settings=agent) as cluster,
        cluster.load() as load,
    ):
        for device in DEVICES:
            if device.startswith("busy"):
                load.small("api0", cluster.gateways[0], device)
                load.raw_tcp("api0", cluster.gateways[0], device, messages=1_000_000)
        load.wait(
            lambda report: all(report.of(device=device).ok > 2 for device in DEVICES if device.startswith("busy")),
            "under way",
        )
        assert set(cluster.sessions()) == set(DEVICES)
        for device in DEVICES:
            lines.proxies[device].apply(f"{device.partition('-')[2]} stall")
        began = time.monotonic()
        gone: dict[str, float] = {}
        told: dict[str, float] = {}

        def all_found() -> bool:
            now = time.monotonic() - began
            there = cluster.sessions()
            for device in DEVICES:
                if device not in there:
                    gone.setdefault(device, now)
                if lost_by_agent(cluster, device):
                    told.setdefault(device, now)
            return len(gone) == len(told) == len(DEVICES)

        wait_for(all_found, "found by all", seconds=DEAD_AFTER + MARGIN)
        for device in DEVICES:
            stalled = device.partition("-")[2]
            # An end that hears nothing goes by the silence; the last byte came at most one probe's interval before.
            # The other one still hears, and is told by the end of the connection.
            if stalled != "up":
                assert lost_by_agent(cluster, device) == ["silence"]
                assert DEAD_AFTER - 6 < told[device] < DEAD_AFTER + MARGIN, (device, told)
            if stalled != "down":
                assert lost_by_relay(cluster, device) == ["dead"]
                assert DEAD_AFTER - 6 < gone[device] < DEAD_AFTER + MARGIN, (device, gone)
        assert all(cluster.code(device) == "device_offline" for device in DEVICES)


def test_a_saturated_line_with_two_seconds_of_delay_is_not_dead(tmp_path: Path, lines: Lines) -> None:
    """As full both ways as the windows let it be, for longer than `dead_after`; a probe has to find its way through."""
    with Cluster(tmp_path, devices=("cam",), apis=1, tunnel=lines) as cluster:
        before = cluster.sessions()["cam"]
        lines.proxies["cam"].apply("both delay 1s")
        bulk = Bulk(f"{cluster.gateways[0]}/d/{cluster.keys.team}/cam/web", cluster.keys.admin_token)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > SATURATED, "over", seconds=SATURATED + 60)
        bulk.end()
        assert bulk.failures == []
        assert cluster.sessions()["cam"]["id"] == before["id"]
        assert lost_by_agent(cluster, "cam") == []
        # It was busy: each stream has moved several of its first windows, with a round trip of 2 s for each.
        passed = lines.proxies["cam"].connections()[0]
        assert min(passed.up, passed.down) > 4 * 1024 * 1024, passed


class Bulk:
    """Endless transfers, four each way, until `end`.

    Args:
        base: URL of the service.
        token: of the API.
    """

    def __init__(self, base: str, token: str) -> None:
        self.failures: list[str] = []
        self._over = threading.Event()
        self._base = base
        self._headers = {"Authorization": f"Bearer {token}"}
        self._threads = [
            threading.Thread(target=self._run, args=(what,)) for what in 4 * [self._download, self._upload]
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Leave all of them in the middle."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, transfer: Callable[[], object]) -> None:
        try:
            transfer()
        except (httpx.HTTPError, _LeftError) as exc:
            if not self._over.is_set():
                self.failures.append(repr(exc))
        else:
            self.failures.append("it ended")

    def _upload(self) -> None:
        httpx.post(f"{self._base}/sha256", content=self._zeros(), headers=self._headers, timeout=60, trust_env=False)

    def _zeros(self) -> Iterator[bytes]:
        while not self._over.is_set():
            yield bytes(16 * 1024)
        raise _LeftError

    def _download(self) -> None:
        url = f"{self._base}/bytes/{10**12}"
        with httpx.stream("GET", url, headers=self._headers, timeout=60, trust_env=False) as answer:
            for _ in answer.iter_raw():
                if self._over.is_set():
                    raise _LeftError


class _LeftError(Exception):
    """The test is over."""
