"""A device that lost power dials again while its old session looks alive: it is in service again at once.

The old connection is black-holed by a proxy: nothing passes, nothing ends. Silence would tell the relay only after
`dead_after`, which these tests set far away, so that whatever happens is not its doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.faults.chaos import ChaosProxy
from tests.faults.cluster import Cluster, wait_for

SETTINGS = {"HOMEPORT_DEAD_AFTER": "1h", "HOMEPORT_PROBE_INTERVAL": "2s"}


class Lines:
    """A proxy in front of the relay for each device."""

    def __init__(self) -> None:
        self.proxies: dict[str, ChaosProxy] = {}
        self._exit = ExitStack()

    def __call__(self, device: str, tunnel: str) -> str:
        """Where the device dials."""
        if device not in self.proxies:
            parts = urlsplit(tunnel)
            assert parts.port is not None
            proxy = ChaosProxy(("127.0.0.1", parts.port), name=device)
            self.proxies[device] = self._exit.enter_context(proxy)
        return f"ws://{self.proxies[device].address}/tunnel"

    def close(self) -> None:
        self._exit.close()


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("takeover")
    with Cluster(folder, devices=("cam", "door"), apis=1, relay_settings=SETTINGS, tunnel=lines) as cluster:
        yield cluster


def test_a_device_that_lost_power_is_in_service_as_soon_as_it_dials_again(cluster: Cluster, lines: Lines) -> None:
    with cluster.load() as load:
        gateway = cluster.gateways[0]
        load.events("api0", gateway, "cam", number=1_000_000)
        load.small("api0", gateway, "cam")
        load.small("api0", gateway, "door")
        load.wait(lambda report: report.of("small", device="cam").ok > 2, "under way")
        before = cluster.sessions()["cam"]
        lines.proxies["cam"].apply("both stall")
        cluster.agents["cam"].kill()
        assert cluster.sessions()["cam"]["id"] == before["id"], "to the relay it looks alive"
        mark = load.mark()
        cluster.agents["cam"].start()
        began = time.monotonic()
        after = cluster.sessions()["cam"]
        assert after["epoch"] > before["epoch"]
        wait_for(lambda: cluster.reaches("cam"), "in service again", seconds=30)
        # The old epoch is drained with a bound: its device gives no sign of life, so its streams are reset.
        report = load.wait(lambda report: report.of("events").failures, "told that it is over", since=mark, seconds=60)
        assert report.of("events").outcomes[0].result == "reset"
        assert time.monotonic() - began < 60
        load.wait(lambda report: report.of("small", device="cam").ok > 5, "well again", since=load.mark())
        report = load.since(mark)
        assert report.of(device="door").failures == []
        # The dead line comes back to life: what it brings, and its end, touch nobody.
        lines.proxies["cam"].apply("#1 both resume")
        lines.proxies["cam"].apply("#1 up reset")
        mark = load.mark()
        load.wait(lambda report: report.of("small", device="cam").ok > 20, "still well", since=mark)
        assert load.since(mark).of("small").failures == []
        assert cluster.sessions()["cam"]["id"] == after["id"]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_one_direction_is_enough(cluster: Cluster, lines: Lines, direction: str) -> None:
    """A line that carries one way only: the relay hears a device that does not hear it, or the other way round."""
    before = cluster.sessions()["cam"]
    assert cluster.reaches("cam")
    lines.proxies["cam"].apply(f"{direction} stall")
    cluster.agents["cam"].kill()
    cluster.agents["cam"].start()
    wait_for(session_after(cluster, before), "taken over", seconds=30)
    wait_for(lambda: cluster.reaches("cam"), "in service again", seconds=30)


def session_after(cluster: Cluster, before: dict[str, object]) -> Callable[[], bool]:
    """Whether the device has another session than that."""
    return lambda: cluster.sessions()["cam"]["id"] != before["id"]
