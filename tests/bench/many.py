"""What many tunnels cost those who use one of them, and those who look at the list."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench import loads
from tests.bench.rows import Figures, Row, Scale, hold, small_url
from tests.bench.sides import Installation, Side
from tests.faults.light_agents import session_tokens

__all__ = ["LIMITS", "ManyTunnels"]

LIMITS = {"HOMEPORT_HANDSHAKES_PER_SECOND": "1000000", "HOMEPORT_MAX_PENDING_HANDSHAKES": "4096"}
"""The relay's, so that opening the tunnels does not take longer than what is measured."""

_PAGES = 10
"""Of each size that are asked for, one after the other from the first on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTunnels(Row):
    """Small requests through one device, with few and with many idle tunnels beside it; then the list of sessions.

    What idle tunnels cost by themselves, with their probes, is measured too, and taken off: it is not the request's.
    """

    def measure(self, homeport: Installation, scale: Scale, folder: Path) -> list[Figures]:
        """All rounds: tunnels are opened once."""
        side = homeport.side
        rounds: list[dict[str, float]] = [{} for _ in range(scale.many_rounds)]
        names = [f"many-{number}" for number in range(scale.many_tunnels)]
        with ExitStack() as stack:
            for label, own in (("few", names[: scale.few_tunnels]), ("many", names[scale.few_tunnels :])):
                home = folder / label
                home.mkdir(parents=True, exist_ok=True)
                tokens = home / "tokens"
                tokens.write_text("".join(f"{token}\n" for token in session_tokens(homeport.keys, own)))
                holding, _ = stack.enter_context(loads.tunnels(homeport.tunnel, tokens, folder=home))
                loads.requests(small_url(side), side.token_file, connections=32, seconds=scale.seconds / 2)
                before, began = _used(side), time.monotonic()
                hold(holding, scale.idle_seconds / 2)
                idle = (_used(side) - before) / max(time.monotonic() - began, 1e-3)
                for figures in rounds:
                    before = _used(side)
                    result = loads.requests(small_url(side), side.token_file, connections=32, seconds=scale.seconds / 2)
                    used = _used(side) - before - idle * result.seconds
                    figures[f"CPU s/10k, {label} tunnels"] = 1e4 * used / result.requests
                    figures[f"p99 ms, {label} tunnels"] = result.p99_ms
                    figures["errors"] = figures.get("errors", 0.0) + result.errors
            for figures in rounds:
                figures["CPU many/few"] = figures["CPU s/10k, many tunnels"] / figures["CPU s/10k, few tunnels"]
                for size in (100, 1000):
                    figures[f"ms, GET /api/sessions?limit={size}"] = _list(homeport, size)
        return list(rounds)


def _used(side: Side) -> float:
    return sum(process.cpu_seconds() for process in side.processes.values())


def _list(homeport: Installation, size: int) -> float:
    """Median milliseconds of a page, over the first pages."""
    taken = []
    cursor: dict[str, str] = {}
    headers = {"Authorization": f"Bearer {homeport.keys.admin_token}"}
    with httpx.Client(base_url=homeport.api, headers=headers, trust_env=False, timeout=60) as client:
        for _ in range(_PAGES):
            began = time.perf_counter()
            answer = client.get("/api/sessions", params={"team": homeport.keys.team, "limit": size, **cursor})
            taken.append(1e3 * (time.perf_counter() - began))
            following = answer.raise_for_status().json()["next"]
            if following is None:
                break
            cursor = {"cursor": following}
    return statistics.median(taken)
