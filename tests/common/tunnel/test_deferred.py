"""Calls that are put off."""

from __future__ import annotations

import pytest

from common.tunnel.deferred import Deferred


def test_calls_run_in_order_with_those_that_they_add() -> None:
    deferred = Deferred()
    done: list[object] = []

    def first() -> None:
        deferred.add(done.append, ("third",))
        deferred.run()  # from inside: nothing
        done.append("first")

    assert not deferred
    deferred.add(first, ())
    deferred.add(done.append, ("second",))
    assert deferred
    assert done == []
    deferred.run()
    assert done == ["first", "second", "third"]
    assert not deferred
    deferred.run()
    assert len(done) == 3


def test_one_that_raises_keeps_no_other_from_running(caplog: pytest.LogCaptureFixture) -> None:
    deferred = Deferred()
    done: list[object] = []

    def broken() -> None:
        raise ValueError("boom")

    deferred.add(broken, ())
    deferred.add(done.append, ("next",))
    deferred.run()
    assert done == ["next"]
    assert "boom" in caplog.text
