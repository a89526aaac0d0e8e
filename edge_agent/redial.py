"""What the end of a tunnel, or of an attempt at one, means: dial again and when, or stop and why.

    what happened                                   then
    no connection, broken handshake, tunnel lost    back-off with full jitter, from the first retry on
    refused with 429, 503 or another status         the same, and never sooner than its Retry-After
    drained by the relay                            after the hint that it gave, with jitter on top
    replaced by another session of the device       the long back-off: two agents that hold one credential would
                                                    otherwise throw each other out for ever
    refused with 401 or 403                         stop; at once again if a new token was put in place meanwhile

The back-off starts anew once a tunnel has lasted a minute (`common.backoff`). Plain decisions: nothing here waits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from common.backoff import Backoff
from common.errors import HomeportError
from common.tunnel.errors import HandshakeRefusedError, TunnelLostError
from common.tunnel.interfaces import CloseReason
from common.wire.messages import Drain

__all__ = ["CONTESTED_PAUSE", "Redial", "Retry", "Stop"]

CONTESTED_PAUSE: Final = 60.0
"""Seconds that an agent stays away at least after another one took its place."""

_LONGEST_PAUSE = 3600.0
"""Seconds; a relay that asks for more is not obeyed, or one wrong header would take a device out of reach for good."""

_CONTESTED_MAXIMUM = 3600.0
_CONTESTED_HEALTHY = 900.0
"""Seconds without being replaced after which the long back-off starts anew."""

_ADVICE = {
    "session_token_expired": "put a fresh session token into the token file and start the agent again",
    "invalid_session_token": "check that the token file holds a session token issued for this relay's installation",
    "revoked": "the device or its credential was revoked; pair the device again if it should come back",
}
_ADVICE_OTHERWISE = "ask the operator of the relay why, and put a session token that is admitted into the token file"

_REPLACED_ADVICE = (
    "another agent uses this device's credential; run one agent for each device, and pair a second one for itself"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Dial again."""

    delay: float
    """Seconds."""
    reason: str
    """A stable code for the log."""
    detail: str
    contested: bool = False
    """Another agent took this one's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Give up: dialling again cannot succeed until somebody does something."""

    reason: str
    detail: str
    advice: str


class Redial:
    """Decides after each attempt.

    Args:
        base, maximum: the ceilings of the back-off, seconds.
        rng: source of the jitter.
    """

    __slots__ = ("_backoff", "_contested")

    def __init__(self, *, base: float = 1.0, maximum: float = 60.0, rng: random.Random | None = None) -> None:
        self._backoff = Backoff(base=base, maximum=maximum, rng=rng)
        self._contested = Backoff(
            base=CONTESTED_PAUSE, maximum=_CONTESTED_MAXIMUM, healthy_after=_CONTESTED_HEALTHY, rng=rng
        )

    @property
    def attempts(self) -> int:
        """Retries since the last healthy tunnel."""
        return self._backoff.attempts

    def after_failure(self, error: HomeportError, *, token_changed: bool) -> Retry | Stop:
        """No tunnel was opened.

        Args:
            error: why.
            token_changed: the token file holds another token by now than the one that was refused.
        """
        if not isinstance(error, HandshakeRefusedError):
            return self._retry(error.code, error.detail)
        if error.final:
            if token_changed:
                return self._retry(error.reason, "the token was refused, but has been renewed meanwhile")
            advice = _ADVICE.get(error.reason, _ADVICE_OTHERWISE)
            return Stop(reason=error.reason or f"http_{error.http_status}", detail=error.detail, advice=advice)
        if error.http_status == 409:
            return self._stay_away(error.retry_after)
        return self._retry(error.reason or f"http_{error.http_status}", error.detail, error.retry_after)

    def after_loss(self, error: TunnelLostError, *, lasted: float) -> Retry:
        """An open tunnel ended.

        Args:
            error: why.
            lasted: seconds that it had been open.
        """
        self._backoff.connected_for(lasted)
        self._contested.connected_for(lasted)
        if error.by_peer and error.reason == CloseReason.REPLACED:
            return self._stay_away(None)
        return self._retry(error.reason or error.code, error.detail)

    def after_drain(self, drain: Drain, *, lasted: float) -> Retry:
        """The relay is going away and the tunnel takes no more streams.

        Args:
            drain: with the hint that the relay spread over its grace.
            lasted: seconds that the tunnel had been open.
        """
        self._backoff.connected_for(lasted)
        self._contested.connected_for(lasted)
        if drain.reason == CloseReason.REPLACED:
            return self._stay_away(drain.reconnect_after)
        return self._retry(drain.reason, "the relay asks to dial anew", drain.reconnect_after)

    def _retry(self, reason: str, detail: str, retry_after: float | None = None) -> Retry:
        pause = None if retry_after is None else min(retry_after, _LONGEST_PAUSE)
        return Retry(delay=self._backoff.next_delay(pause), reason=reason, detail=detail)

    def _stay_away(self, retry_after: float | None) -> Retry:
        pause = min(max(CONTESTED_PAUSE, retry_after or 0.0), _LONGEST_PAUSE)
        return Retry(
            delay=self._contested.next_delay(pause),
            reason=CloseReason.REPLACED,
            detail=_REPLACED_ADVICE,
            contested=True,
        )
