"""Patterns, signatures and times, without anything around them."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as Signer

from api_server.webhooks.records import Event, is_pattern, matches
from api_server.webhooks.schedule import GIVE_UP, Verdict, next_delay, verdict_of
from api_server.webhooks.signing import body_of, new_secret, shown, signed_headers
from common.ids import TeamId


@pytest.mark.parametrize(
    ("pattern", "kind", "wanted"),
    [
        ("*", "session.online", True),
        ("session.*", "session.online", True),
        ("session.online", "session.online", True),
        ("session.online", "session.offline", False),
        ("token.*", "session.online", False),
    ],
)
def test_patterns(pattern: str, kind: str, wanted: bool) -> None:
    assert is_pattern(pattern)
    assert matches([pattern], kind) is wanted


@given(
    data=st.dictionaries(st.text(max_size=10), st.text(max_size=50), max_size=5),
    at=st.integers(0, 2**33),
    secret=st.binary(min_size=24, max_size=64),
)
def test_signatures_are_those_of_standard_webhooks(data: dict[str, str], at: int, secret: bytes) -> None:
    event = Event(id="evt_1", team=TeamId("home"), type="a.b", time=1.5, data=data)
    body = body_of(event)
    headers = signed_headers(event, body, [secret], at + 0.9)
    theirs = Signer("whsec_" + base64.b64encode(secret).decode())
    assert headers["webhook-signature"] == theirs.sign("evt_1", datetime.fromtimestamp(at, UTC), body.decode())
    assert headers["webhook-timestamp"] == str(at)


def test_secrets() -> None:
    secret = new_secret()
    text = shown(secret).reveal()
    assert text.startswith("whsec_")
    assert base64.b64decode(text.removeprefix("whsec_")) == secret
    assert new_secret() != secret


def test_what_an_answer_means() -> None:
    assert {status: verdict_of(status) for status in (200, 204, 299)} == dict.fromkeys(
        (200, 204, 299), Verdict.DELIVERED
    )
    assert verdict_of(410) is Verdict.GONE
    assert {verdict_of(status) for status in (199, 301, 302, 307, 400, 404, 429, 500, 503)} == {Verdict.FAILED}


def test_when_it_is_tried_again() -> None:
    rng = random.Random(1)
    delays = [next_delay(attempt, None, rng) for attempt in range(1, GIVE_UP)]
    assert delays == sorted(delays, key=lambda each: each or 0)
    assert next_delay(GIVE_UP, None, rng) is None
    assert next_delay(1, "120", rng) == 120
    assert next_delay(1, "1", rng) != 1
    assert next_delay(1, "999999999", rng) == 24 * 3600
    for nonsense in ("soon", "-1", "1e9", "²", "", "9" * 40, "Wed, 21 Oct 2026 07:28:00 GMT"):
        assert 4 <= (next_delay(1, nonsense, rng) or 0) <= 6
