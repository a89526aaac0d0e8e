from __future__ import annotations

import msgpack
import msgspec
import pytest

from common.ids import DeviceId, SessionId, TeamId
from common.sessions.interfaces import OpenOptions, Page, SessionState, Summary

SUMMARY = Summary(
    id=SessionId("ses_" + "0" * 32),
    device=DeviceId("cam"),
    device_name="porch",
    team=TeamId("home"),
    relay="relay-1",
    epoch=1_795_000_000_123,
    state=SessionState.DEGRADED,
    connected_at=1_795_000_000.123,
    last_heartbeat=1_795_000_060.5,
    rtt_ms=None,
    streams=3,
    bytes_in=2**40,
    bytes_out=0,
    subprotocol="homeport.v1",
    remote_address="[2001:db8::1]:40000",
    agent_version="homeport-agent/0.1.0",
    services={"web": "healthy"},
)


def test_a_summary_has_the_fields_of_the_rest_contract() -> None:
    promised = (
        "id device device_name team relay epoch state connected_at last_heartbeat rtt_ms streams bytes_in bytes_out "
        "subprotocol remote_address agent_version"
    )
    assert msgspec.to_builtins(SUMMARY).keys() >= set(promised.split())


def test_a_page_survives_json_and_msgpack() -> None:
    page = Page(items=[SUMMARY], next=SUMMARY.id)
    assert msgspec.json.decode(msgspec.json.encode(page), type=Page) == page
    packed = msgpack.packb(msgspec.to_builtins(page))
    assert msgspec.convert(msgpack.unpackb(packed), Page) == page


def test_what_a_newer_relay_adds_is_ignored_and_what_an_older_one_lacks_has_a_default() -> None:
    known = msgspec.to_builtins(SUMMARY)
    assert msgspec.convert({**known, "colour": "blue"}, Summary) == SUMMARY
    without = {name: value for name, value in known.items() if name != "services"}
    assert msgspec.convert(without, Summary).services == {}


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(SUMMARY), "state": "asleep"}, Summary)


def test_an_open_waits_ten_seconds_unless_told_otherwise() -> None:
    assert OpenOptions() == OpenOptions(timeout=10.0, traceparent=None, epoch=None)
