"""Usage through the whole installation: a process that is killed loses an interval at most (T4)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.homeport.up.running import Up, running_up


def used(up: Up) -> int:
    """Requests to the demo service, as the API shows them."""
    answer = up.get(f"{up.run['api']}/api/usage?by=route&route=demo/demo").json()
    return sum(each["requests"] for each in answer["items"])


def until(up: Up, number: int) -> None:
    deadline = time.monotonic() + 60
    while used(up) < number:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_t4_what_was_used_is_kept(tmp_path: Path) -> None:
    config = tmp_path / "homeport.toml"
    config.write_text("[api]\nusage_interval = 0.5\n")
    with running_up(tmp_path / "data", "--config", config) as up:
        for _ in range(20):
            assert up.get(f"{up.demo_url}/status/204").status_code == 204
        until(up, 20)
        api = up.child("api")
        for _ in range(5):
            up.get(f"{up.demo_url}/status/204")
        api.kill()
        before = len(up.log.lines)
        up.log.wait_for("listening", after=before)
        assert 20 <= used(up) <= 25
        shown = up.command("usage", "--by", "route,status", "--route", "demo/demo", "--json")
        assert shown.returncode == 0, shown.stderr
        items: list[dict[str, Any]] = json.loads(shown.stdout)["items"]
        assert items[0]["status"] == 204
