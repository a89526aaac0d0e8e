"""Thousands of devices lose their tunnels in the same instant, and are all back: spread out by their own back-off, no
more in a second than the relay's limit lets in, and the relay answers its health check throughout.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.light_agents import Attempt, LightAgents, allow_open_files, light_agents, session_tokens
from tests.stack.homeport import Keys, Relay, relay

AGENTS, PER_SECOND, BURST = (5_000, 500, 100) if os.environ.get("HOMEPORT_FAULTS") == "all" else (1_000, 150, 50)
BASE, MAXIMUM = 1.0, 10.0
"""Ceilings of the back-off, seconds. The agent's are 1 and 60, and it forgets its failures only after a healthy minute:
here two storms have to pass in one.
"""
PATIENCE = 240.0
ANSWER_WITHIN = 30.0
"""Seconds. The whole storm arrives in one, a refusal costs the relay half a millisecond of a core, and the agents and
the rest of the tests share two with it; what is asserted is that every check is answered, in its turn.
"""

pytestmark = pytest.mark.timeout(600)


class HealthChecks:
    """Asks both ports how they are, some ten times a second, as a load balancer and an orchestrator do together."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers: list[tuple[float, int]] = []
        """Seconds each took, and the status; 0 is none."""

    def __enter__(self) -> HealthChecks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=ANSWER_WITHIN) as client:
            while True:
                for url in self._urls:
                    began = time.monotonic()
                    try:
                        status = client.get(url).status_code
                    except httpx.HTTPError:
                        status = 0
                    self.answers.append((time.monotonic() - began, status))
                if self._over.wait(0.1):
                    return


def health(running: Relay) -> HealthChecks:
    tunnel = urlsplit(running.tunnel)
    return HealthChecks([f"http://{tunnel.netloc}/healthz", f"{running.internal}/healthz"])


def connected_at(running: Relay, keys: Keys) -> list[float]:
    """When each session began, by the relay's own clock."""
    moments: list[float] = []
    headers = {"Authorization": f"Bearer {keys.internal_key_file.read_text().strip()}", "Accept": "application/json"}
    with httpx.Client(base_url=running.internal, headers=headers, trust_env=False, timeout=30) as client:
        cursor: Mapping[str, str] = {}
        while True:
            page = client.get("/internal/sessions", params={"team": keys.team, "limit": "1000", **cursor}).json()
            moments += [item["connected_at"] for item in page["items"]]
            if page["next"] is None:
                return sorted(moments)
            cursor = {"cursor": page["next"]}


def handshakes(running: Relay, keys: Keys, outcome: str) -> float:
    """How many handshakes the relay decided so."""
    headers = {"Authorization": f"Bearer {keys.internal_key_file.read_text().strip()}"}
    text = httpx.get(f"{running.internal}/metrics", headers=headers, trust_env=False, timeout=30).text
    for line in text.splitlines():
        if line.startswith(f'homeport_relay_handshakes_total{{outcome="{outcome}"}}'):
            return float(line.split()[-1])
    return 0.0


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The most of the sorted `moments` that lie within any window of that length."""
    most = start = 0
    for end, moment in enumerate(moments):
        while moment - moments[start] > seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


@contextmanager
def limited_relay(folder: Path, keys: Keys, at: Relay) -> Iterator[Relay]:
    """A relay with a limit, at the addresses of the one before it."""
    settings = {
        "HOMEPORT_TUNNEL_PORT": str(urlsplit(at.tunnel).port),
        "HOMEPORT_INTERNAL_PORT": str(urlsplit(at.internal).port),
        "HOMEPORT_HANDSHAKES_PER_SECOND": str(PER_SECOND),
        "HOMEPORT_HANDSHAKES_BURST": str(BURST),
        "HOMEPORT_DRAIN_GRACE": "0",
    }
    with relay(folder, keys, environment=settings) as running:
        yield running


def test_a_relay_that_is_killed_and_connections_that_are_all_reset(tmp_path: Path) -> None:
    allow_open_files(AGENTS + 1_000)
    keys = Keys.make(tmp_path)
    tokens = session_tokens(keys, [f"light-{number}" for number in range(AGENTS)])
    with ExitStack() as stack:
        unlimited = {"HOMEPORT_HANDSHAKES_PER_SECOND": "1000000", "HOMEPORT_HANDSHAKES_BURST": "1000000"}
        first = stack.enter_context(relay(tmp_path, keys, environment=unlimited))
        agents = stack.enter_context(
            light_agents(first.tunnel, tokens, tmp_path, base=BASE, maximum=MAXIMUM, healthy_after=0.0)
        )
        agents.wait_connected(AGENTS, seconds=PATIENCE)

        began = time.monotonic()
        first.process.signal(signal.SIGKILL)
        first.process.wait()
        second = stack.enter_context(limited_relay(tmp_path, keys, first))
        check_storm(second, keys, agents, began)

        began = time.monotonic()
        agents.reset_all()
        agents.wait_lost(2 * AGENTS)
        check_storm(second, keys, agents, began)


def check_storm(running: Relay, keys: Keys, agents: LightAgents, began: float) -> None:
    """Wait until all are back, and look at how they came.

    Args:
        began: when all tunnels were lost.
    """
    refused_before = handshakes(running, keys, "rate_limited")
    with health(running) as checks:
        agents.wait_connected(AGENTS, seconds=PATIENCE)
    assert Counter(status for _, status in checks.answers) == {200: len(checks.answers)}
    assert max(seconds for seconds, _ in checks.answers) < ANSWER_WITHIN

    # By the relay's clock: no window holds more than the burst and what came in meanwhile.
    sessions = connected_at(running, keys)
    assert len(sessions) == AGENTS
    for seconds in (1.0, 3.0):
        assert most_within(sessions, seconds) <= BURST + PER_SECOND * seconds + 1

    storm = [attempt for attempt in agents.history() if attempt.due >= began]
    outcomes = Counter(attempt.outcome for attempt in storm)
    assert outcomes["connected"] == AGENTS
    # A machine that is slow enough spreads the dials by itself; where it did not, the limit was met.
    answered = sorted(attempt.ended for attempt in storm if attempt.outcome != "failed")
    if most_within(answered, 1.0) > 2 * (BURST + PER_SECOND):
        assert outcomes["rate_limited"] > 0
        assert handshakes(running, keys, "rate_limited") > refused_before
    assert set(outcomes) <= {"connected", "rate_limited", "failed"}
    check_spread(storm)


def check_spread(storm: Sequence[Attempt]) -> None:
    """The agents' own plan, whatever the machine made of it."""
    # The first retries are spread evenly over BASE, and the later ones over more: a tenth of it holds a tenth of them.
    assert most_within(sorted(attempt.due for attempt in storm), BASE / 10) <= AGENTS / 5
    before: dict[int, Attempt] = {}
    for attempt in sorted(storm, key=lambda attempt: attempt.due):
        last = before.get(attempt.agent)
        if last is not None and last.outcome == "rate_limited":
            assert last.retry_after is not None
            assert attempt.due - last.ended >= last.retry_after >= 1.0
        before[attempt.agent] = attempt
