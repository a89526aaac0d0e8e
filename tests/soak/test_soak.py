"""The soak itself, for a short time; and what it makes of what it sees."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from tests.soak.churn import RECOVERY, Window
from tests.soak.report import Run, write
from tests.soak.samples import Life, proc_figures
from tests.soak.soak import LEAST_LIFE, Soaked, findings, soak
from tests.soak.traffic import HANGS, KINDS, Outcome

MINUTES = 0.25


def outcome(result: str, *, began: float = 100.0, ended: float = 101.0, device: str = "shaky") -> Outcome:
    return Outcome("small", f"small by api-0 to {device}", "api-0", device, began, ended, result)


def life(slope: float, *, minutes: float = 20.0, what: str = "descriptors") -> Life:
    """A life in which something grows."""
    each = Life("relay", 1, 1)
    for n in range(int(minutes * 12)):
        each.add(n / 12, {"memory": 50.0, what: 20.0 + slope * n / 12})
    return each


@pytest.fixture
def quiet() -> Soaked:
    """A soak in which all was well."""
    soaked = Soaked(30.0, 1)
    soaked.outcomes.update({(kind, "ok"): 10 for kind in KINDS})
    soaked.lives.append(life(0.0))
    return soaked


class TestFindings:
    def test_none(self, quiet: Soaked) -> None:
        assert findings(quiet) == []

    def test_a_leak(self, quiet: Soaked) -> None:
        quiet.lives.append(life(1.0))
        (found,) = findings(quiet)
        assert found.startswith("leak: descriptors of relay grows by 1.000")

    def test_a_life_too_short_to_tell(self, quiet: Soaked) -> None:
        quiet.lives.append(life(1.0, minutes=LEAST_LIFE - 0.2))
        assert findings(quiet) == []

    def test_what_nothing_excuses(self, quiet: Soaked) -> None:
        quiet.unexpected, quiet.unexpected_count = ["one"], 2
        assert findings(quiet) == ["unexpected: one", "and 1 more that were unexpected"]

    def test_no_rest_and_a_traceback(self, quiet: Soaked) -> None:
        quiet.restless, quiet.logged = ["the relay has 1 streams"], ["relay.log: Traceback"]
        assert findings(quiet) == ["not at rest: the relay has 1 streams", "logged: relay.log: Traceback"]

    def test_a_kind_of_traffic_that_never_succeeds(self, quiet: Soaked) -> None:
        del quiet.outcomes["tcp", "ok"]
        quiet.outcomes["tcp", "refused"] = 5
        assert findings(quiet) == ["no tcp ever succeeded"]


class TestExcuses:
    def window(self, **more: object) -> Window:
        return Window("stall", lambda each: each.device == "shaky", began=100.0, ended=110.0, **more)  # type: ignore[arg-type]

    def test_what_overlaps_a_fault_of_its_device(self) -> None:
        assert self.window().excuses(outcome("502 device_offline"))
        assert self.window().excuses(outcome("cut", began=10.0, ended=100.5))

    def test_another_device(self) -> None:
        assert not self.window().excuses(outcome("502 device_offline", device="quiet"))

    def test_before_and_long_after(self) -> None:
        assert not self.window().excuses(outcome("cut", began=90.0, ended=99.0))
        after = 110.0 + RECOVERY
        assert self.window().excuses(outcome("cut", began=after - 1, ended=after + 5))
        assert not self.window().excuses(outcome("cut", began=after + 1, ended=after + 5))

    @pytest.mark.parametrize("result", ["wrong", HANGS])
    def test_what_nothing_excuses(self, result: str) -> None:
        assert not self.window().excuses(outcome(result))

    def test_a_line_that_is_only_slow(self) -> None:
        assert not self.window(hard=False).excuses(outcome("cut"))
        assert self.window(hard=False).excuses(outcome("504 service_timeout"))

    def test_a_fault_that_goes_on(self) -> None:
        window = Window("kill", lambda _: True, began=100.0)
        assert window.ended == math.inf
        assert window.excuses(outcome("refused", began=time.monotonic(), ended=time.monotonic() + 1e9))


def test_a_process_that_has_ended_has_no_figures() -> None:
    with pytest.raises(OSError):
        proc_figures(2**22 + 1)


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Soaked:
    return soak(tmp_path_factory.mktemp("soak"), minutes=MINUTES, seed=2, say=False)


@pytest.mark.timeout(400)
class TestAShortSoak:
    """Everything but the slopes, for which it is too short."""

    def test_nothing_is_found(self, soaked: Soaked) -> None:
        assert findings(soaked) == []

    def test_every_kind_of_traffic_has_run(self, soaked: Soaked) -> None:
        assert {kind for kind, result in soaked.outcomes if result == "ok"} == set(KINDS)

    def test_every_process_was_sampled(self, soaked: Soaked) -> None:
        figures = {each.source: set(each.values) for each in soaked.lives}
        agents = {f"agent {name}" for name in ("quiet", "shaky", "restless")}
        assert set(figures) == {"relay", "api-0", "api-1", *agents}
        assert {"memory", "descriptors", "threads", "streams", "sessions", "tasks", "held"} <= figures["relay"]
        assert {"memory", "descriptors", "streams", "idle", "tasks", "held"} <= figures["api-1"]

    def test_processes_were_restarted(self, soaked: Soaked) -> None:
        assert soaked.windows[0].ended < math.inf
        assert len([each for each in soaked.lives if each.source == "relay"]) > 1

    def test_the_report(self, soaked: Soaked, tmp_path: Path) -> None:
        run = Run(
            command="make soak",
            commit="abc",
            date="2026-01-01",
            note="A note.",
            machine={"processor": "p", "cores": "2", "kernel": "k", "python": "3"},
        )
        write(tmp_path, soaked, run)
        page = (tmp_path / "soak.md").read_text()
        assert "Nothing was found." in page
        assert "A note." in page
        for plot in ("memory", "descriptors", "streams", "tasks", "latency"):
            assert f"(soak/{plot}.svg)" in page
            assert (tmp_path / "soak" / f"{plot}.svg").stat().st_size > 1000
        figures = json.loads((tmp_path / "soak" / "soak.json").read_text())
        assert figures["findings"] == []
        assert sum(count for _, _, count in figures["outcomes"]) == sum(soaked.outcomes.values())
