"""What follows from the end of a tunnel, and when."""

from __future__ import annotations

import random

import pytest

from common.errors import HomeportError
from common.tunnel.errors import HandshakeFailedError, HandshakeRefusedError, ProxyRefusedError, TunnelLostError
from common.wire.messages import Drain
from edge_agent.errors import TokenFileError
from edge_agent.redial import CONTESTED_PAUSE, Redial, Retry, Stop


class Highest(random.Random):
    """Draws the upper end of every range: delays become ceilings."""

    def uniform(self, a: float, b: float) -> float:
        return b


def refusal(status: int, reason: str = "", retry_after: float | None = None) -> HandshakeRefusedError:
    return HandshakeRefusedError("no", http_status=status, reason=reason, retry_after=retry_after)


def retry(decision: Retry | Stop) -> Retry:
    assert isinstance(decision, Retry)
    return decision


@pytest.mark.parametrize(
    "error",
    [
        HandshakeFailedError("no route"),
        HandshakeFailedError("garbage"),
        ProxyRefusedError("no", http_status=403),
        TokenFileError("gone"),
    ],
)
def test_a_failed_dial_is_tried_again_with_growing_ceilings(error: HomeportError) -> None:
    redial = Redial(base=1, maximum=8, rng=Highest())
    delays = [retry(redial.after_failure(error, token_changed=False)).delay for _ in range(6)]
    assert delays == [1, 2, 4, 8, 8, 8]
    assert redial.attempts == 6


def test_even_the_first_retry_is_drawn_from_the_whole_range() -> None:
    rng = random.Random(7)
    firsts = [
        retry(Redial(base=1, maximum=60, rng=rng).after_failure(HandshakeFailedError("x"), token_changed=False)).delay
        for _ in range(300)
    ]
    assert min(firsts) < 0.05
    assert max(firsts) > 0.95
    assert sum(d < 0.5 for d in firsts) == pytest.approx(150, abs=40)


def test_a_healthy_minute_starts_the_back_off_anew_and_a_short_life_does_not() -> None:
    redial = Redial(base=1, maximum=60, rng=Highest())
    lost = TunnelLostError("gone", reason="silence")
    assert [redial.after_loss(lost, lasted=0.1).delay for _ in range(4)] == [1, 2, 4, 8]
    assert redial.after_loss(lost, lasted=59.9).delay == 16
    assert redial.after_loss(lost, lasted=60).delay == 1


def test_the_reason_of_a_loss_is_told() -> None:
    redial = Redial()
    assert redial.after_loss(TunnelLostError("x", reason="silence"), lasted=1).reason == "silence"
    assert redial.after_loss(TunnelLostError("x", reason=""), lasted=1).reason == "tunnel_lost"


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for_and_jitter_comes_on_top(status: int) -> None:
    redial = Redial(base=1, maximum=60, rng=Highest())
    decision = retry(redial.after_failure(refusal(status, "over_capacity", 30), token_changed=False))
    assert decision.delay == 31
    assert decision.reason == "over_capacity"
    rng = random.Random(1)
    delays = {
        retry(Redial(rng=rng).after_failure(refusal(status, "", 30), token_changed=False)).delay for _ in range(50)
    }
    assert min(delays) >= 30
    assert len(delays) == 50


def test_a_relay_cannot_send_a_device_away_for_good() -> None:
    redial = Redial(base=1, maximum=60, rng=Highest())
    assert retry(redial.after_failure(refusal(503, "", 1e9), token_changed=False)).delay == 3601
    assert redial.after_drain(Drain(reconnect_after=31_536_000.0), lasted=100).delay == 3601


def test_a_refusal_that_is_not_known_is_tried_again_and_named_by_its_status() -> None:
    decision = retry(Redial().after_failure(refusal(426), token_changed=False))
    assert decision.reason == "http_426"


@pytest.mark.parametrize(
    ("status", "reason", "advice"),
    [
        (401, "session_token_expired", "fresh session token"),
        (401, "invalid_session_token", "token file holds"),
        (403, "revoked", "pair the device again"),
        (403, "", "ask the operator"),
        (401, "something_new", "ask the operator"),
    ],
)
def test_401_and_403_stop_the_agent_with_advice(status: int, reason: str, advice: str) -> None:
    decision = Redial().after_failure(refusal(status, reason), token_changed=False)
    assert isinstance(decision, Stop)
    assert decision.reason == (reason or f"http_{status}")
    assert advice in decision.advice


def test_a_token_that_was_renewed_while_the_old_one_was_refused_is_tried() -> None:
    decision = Redial(rng=Highest()).after_failure(refusal(401, "session_token_expired"), token_changed=True)
    assert isinstance(decision, Retry)


def test_a_replaced_agent_stays_away_for_longer_each_time() -> None:
    redial = Redial(rng=Highest())
    replaced = TunnelLostError("replaced", reason="replaced", by_peer=True)
    decisions = [redial.after_loss(replaced, lasted=5) for _ in range(3)]
    assert [d.delay for d in decisions] == [60 + 60, 60 + 120, 60 + 240]
    assert all(d.contested and "another agent" in d.detail for d in decisions)
    assert redial.after_loss(replaced, lasted=900).delay == 60 + 60


def test_a_409_counts_as_replaced_and_its_retry_after_counts_too() -> None:
    redial = Redial(rng=Highest())
    assert retry(redial.after_failure(refusal(409, "replaced"), token_changed=False)).delay == 120
    assert retry(redial.after_failure(refusal(409, "replaced", 600), token_changed=False)).delay == 720


def test_two_agents_with_one_credential_do_not_come_back_soon() -> None:
    rng = random.Random(3)
    replaced = TunnelLostError("replaced", reason="replaced", by_peer=True)
    delays = [Redial(rng=rng).after_loss(replaced, lasted=1).delay for _ in range(100)]
    assert min(delays) >= CONTESTED_PAUSE


def test_replaced_is_what_the_relay_says_and_not_what_this_side_says() -> None:
    decision = Redial(rng=Highest()).after_loss(TunnelLostError("x", reason="replaced", by_peer=False), lasted=1)
    assert not decision.contested


def test_a_drain_hint_is_waited_for_and_spread() -> None:
    drain = Drain(reconnect_after=12.0, reason="draining")
    assert Redial(base=1, rng=Highest()).after_drain(drain, lasted=100).delay == 13
    rng = random.Random(5)
    delays = {Redial(rng=rng).after_drain(drain, lasted=100).delay for _ in range(50)}
    assert min(delays) >= 12
    assert len(delays) == 50


def test_a_drain_because_another_agent_took_the_place_is_no_reason_to_dial_anew() -> None:
    decision = retry(Redial(rng=Highest()).after_drain(Drain(reason="replaced"), lasted=100))
    assert (decision.delay, decision.contested) == (120, True)


def test_draining_again_and_again_backs_off() -> None:
    redial = Redial(base=1, maximum=60, rng=Highest())
    assert [redial.after_drain(Drain(), lasted=0.5).delay for _ in range(4)] == [1, 2, 4, 8]
