"""Metrics: a registry of one's own, and its text."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import Counter

from common.metrics import expose, new_registry


def test_registries_do_not_count_into_each_other() -> None:
    first, second = new_registry(), new_registry()
    Counter("homeport_test_total", "Things.", registry=first).inc()
    Counter("homeport_test_total", "Things.", registry=second)
    assert b"homeport_test_total 1.0" in expose(first)[1]
    assert b"homeport_test_total 0.0" in expose(second)[1]


def test_what_is_expected_of_any_process_is_there() -> None:
    content_type, body = expose(new_registry())
    assert content_type.startswith("text/plain; version=")
    for name in (b"process_cpu_seconds_total", b"process_resident_memory_bytes", b"python_gc_objects_collected_total"):
        assert name in body


def test_openmetrics_when_it_is_asked_for() -> None:
    content_type, body = expose(new_registry(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.anyio
async def test_tasks_are_counted_in_a_loop() -> None:
    """A leak of tasks shows nowhere else: one that waits for ever has no descriptor and no CPU time."""
    registry = new_registry()
    alone = registry.get_sample_value("homeport_tasks")
    assert alone is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        assert registry.get_sample_value("homeport_tasks") == alone + 1
    assert registry.get_sample_value("homeport_tasks") == alone


def test_outside_of_a_loop_there_are_none_to_count() -> None:
    assert new_registry().get_sample_value("homeport_tasks") is None
