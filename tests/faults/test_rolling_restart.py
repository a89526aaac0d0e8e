"""Everything is restarted under load, one after the other: the number of requests that failed is the figure: zero."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.faults.cluster import ALL, Cluster
from tests.faults.load import Load

ROUNDS = 3 if ALL else 1
GRACE = {"HOMEPORT_DRAIN_GRACE": "60s"}


def run_load(cluster: Cluster, load: Load) -> None:
    """Small requests and short streams by both gateways; a client whose gateway is gone goes to the other."""
    first, second = cluster.gateways
    for name, gateway, other in (("api0", first, second), ("api1", second, first)):
        for device in cluster.agents:
            load.small(name, gateway, device, others=[other])
    load.wait_all_well()


def test_a_rolling_restart_of_everything(tmp_path: Path) -> None:
    relay = {**GRACE, "HOMEPORT_HANDOVER_TIMEOUT": "60s"}
    with (
        Cluster(tmp_path, relay_settings=relay, api_settings=GRACE, agent_settings=GRACE) as cluster,
        cluster.load() as load,
    ):
        run_load(cluster, load)
        mark = load.mark()
        for _ in range(ROUNDS):
            old = cluster.relay.process
            cluster.relay.start_beside(lambda old=old: old.signal(signal.SIGTERM))
            assert old.wait(seconds=90) == 0
            load.wait_all_well()
            for api in cluster.apis:
                api.restart()
                load.wait_all_well()
            for agent in cluster.agents.values():
                old = agent.process
                agent.start()  # the new one takes over, then the old one is told to end
                old.signal(signal.SIGTERM)
                assert old.wait(seconds=90) == 0
                load.wait_all_well()
        report = load.since(mark)
        print(f"{report}; sent again by their clients: {report.again}; the slowest took {report.slowest:.1f} s")
        assert report.failures == []
        assert report.ok > 100


def test_one_relay_that_is_stopped_and_started_again(tmp_path: Path) -> None:
    """Without a second one beside it: requests wait for it at the gateway."""
    settings = {"HOMEPORT_RELAY_PATIENCE": "60s", **GRACE}
    with Cluster(tmp_path, apis=1, relay_settings=GRACE, api_settings=settings) as cluster, cluster.load() as load:
        for device in cluster.agents:
            load.small("api0", cluster.gateways[0], device)
        load.wait_all_well()
        mark = load.mark()
        cluster.relay.restart()
        load.wait_all_well()
        report = load.since(mark)
        print(f"the slowest request waited {report.slowest:.1f} s")
        assert report.failures == []
        assert report.slowest < 60
