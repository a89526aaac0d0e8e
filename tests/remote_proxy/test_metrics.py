"""The page about the metrics says what there is, and the limits are all in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.settings import fields_of
from remote_proxy.settings import RelaySettings
from tests.contract.relay_fixture import RunningRelay

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "relay-metrics.md"


async def test_the_reference_lists_each_metric_with_its_type_and_labels(relay: RunningRelay) -> None:
    await relay.attach("cam")
    written = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    }
    families = [family for family in relay.relay.registry.collect() if family.name.startswith("homeport_")]
    assert set(written) == {family.name for family in families}
    for family in families:
        kind, labels = written[family.name]
        assert kind == family.type
        for sample in family.samples:
            assert set(sample.labels) == labels


async def test_every_limit_among_the_settings_is_a_metric(relay: RunningRelay) -> None:
    limits = {
        field.name
        for field in fields_of(RelaySettings)
        if field.name.startswith(("max_", "handshakes_", "failed_handshakes_")) or field.name.endswith("_budget")
    }
    shown = {
        sample.labels["limit"]
        for family in relay.relay.registry.collect()
        if family.name == "homeport_relay_limit"
        for sample in family.samples
    }
    assert shown == limits
