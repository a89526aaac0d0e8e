"""Who may open a tunnel: one synchronous decision a handshake, from public keys and memory alone.

The order is by cost and by what a refusal gives away. Drain and both rates are checked before the signature, so that a
flood costs few signature checks; capacity after it, so that a stranger learns nothing of it, and so that a device that
is connected already (its old tunnel may be dead, unnoticed) is let in however full the relay is.

    draining                            503 draining                    with Retry-After
    too many handshakes a second        429 rate_limited                with Retry-After
    too many failures from its address  429 too_many_failed_handshakes  with Retry-After
    revocations not known yet           503 not_ready                   with Retry-After (only with `await_revocations`)
    token                               401 invalid_session_token, session_token_expired
    revoked                             403 revoked
    a later dial was here               409 replaced                    (`common.tunnel.dial`)
    too many tunnels                    503 over_capacity               with Retry-After

Who pays. A handshake with a good token is charged to the relay's own rate. One that is refused for its token or a
revocation is charged to its address alone, so that a flood of bad tokens takes nothing from devices elsewhere; beyond
its share the address is refused unseen, and a good device behind it has to wait with it. Where the address is not known
(`remote_proxy.tunnels.origins`) a failure is charged to the relay's rate.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from common.crypto.errors import CredentialError
from common.crypto.session_tokens import SessionClaims, SessionTokenVerifier
from common.guesses import GuessLimiter
from common.tunnel.dial import DIAL_HEADER, Dial
from common.tunnel.handshake import Admission, HandshakeRequest, Refusal
from remote_proxy.limits import TokenBucket
from remote_proxy.tunnels.epochs import EpochSource
from remote_proxy.tunnels.origins import Origins
from remote_proxy.tunnels.session import LiveTunnel, TunnelContext, revocation_keys

__all__ = ["ADMITTED", "AdmissionLimits", "Gate"]

ADMITTED = "admitted"
"""The outcome of a handshake that was not refused; the others are the codes of the refusals."""

_DIAL = DIAL_HEADER.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How many may come in."""

    max_tunnels: int
    handshakes_per_second: float
    handshakes_burst: float
    failed_handshakes_per_second: float = 1.0
    """Of one address."""
    failed_handshakes_burst: int = 20
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `X-Forwarded-For` is believed."""
    await_revocations: bool = False
    """Admit nobody before `Revocations.told`."""
    retry_after: float = 5.0
    """Seconds that a device refused for capacity should stay away."""


class Gate:
    """Decides on handshakes, and counts the outcomes.

    Args:
        context: what the tunnels share.
        verifier: checks session tokens.
        limits: how many may come in.
    """

    def __init__(self, context: TunnelContext, verifier: SessionTokenVerifier, limits: AdmissionLimits) -> None:
        self._context = context
        self._verifier = verifier
        self._limits = limits
        self._epochs = EpochSource(context.clock)
        self._rate = TokenBucket(limits.handshakes_per_second, limits.handshakes_burst, now=context.clock.monotonic())
        self._failures = GuessLimiter(
            burst=limits.failed_handshakes_burst, interval=1 / limits.failed_handshakes_per_second
        )
        self._origins = Origins(limits.trusted_proxies)
        self._closed_for: float | None = None
        self.outcomes: Counter[str] = Counter()

    def close(self, retry_after: float) -> None:
        """Admit nobody any more: the relay is draining. Devices are told to come back after that many seconds."""
        self._closed_for = retry_after

    def closed(self) -> Refusal | None:
        """Why nobody would be admitted now, which does not take a look at the request: in a storm of thousands of
        devices most are told to come back later, and that must be cheap.
        """
        refusal = self._closed()
        if refusal is not None:
            self.outcomes[refusal.code] += 1
        return refusal

    def admit(self, request: HandshakeRequest) -> Admission | Refusal:
        """The decision on one handshake."""
        try:
            dial = Dial.parse(text) if (text := request.headers.get(_DIAL)) is not None else None
        except ValueError as exc:
            decision: SessionClaims | Refusal = Refusal(
                status=400, code="invalid_handshake", title="Not a handshake", detail=f"{DIAL_HEADER} is {exc}"
            )
        else:
            decision = self._decide(request, dial)
        if isinstance(decision, Refusal):
            self.outcomes[decision.code] += 1
            return decision
        self.outcomes[ADMITTED] += 1
        return Admission(
            handler=LiveTunnel(self._context, decision, epoch=self._epochs.next(), request=request, dial=dial),
            team=decision.team,
        )

    def _decide(self, request: HandshakeRequest, dial: Dial | None) -> SessionClaims | Refusal:
        if (closed := self._closed()) is not None:
            return closed
        now = self._context.clock.monotonic()
        address = self._origins.address(request)
        if address is not None and (wait := self._failures.wait(address, now)):
            return Refusal(
                status=429,
                code="too_many_failed_handshakes",
                title="Too many failed handshakes",
                detail="too many handshakes from this address have failed",
                retry_after=max(1.0, wait),
            )
        if self._limits.await_revocations and not self._context.revocations.told:
            return Refusal(
                status=503, code="not_ready", title="Not ready", detail="revocations are not known yet", retry_after=1.0
            )
        checked = self._check(request)
        if isinstance(checked, Refusal) and address is not None:
            self._failures.wrong(address, now)
        else:
            self._rate.take(now)
        return checked if isinstance(checked, Refusal) else self._fit_in(checked, dial)

    def _closed(self) -> Refusal | None:
        """Whether the relay is draining, or its rate is used up."""
        if self._closed_for is not None:
            return Refusal(
                status=503, code="draining", title="The relay is draining", retry_after=max(1.0, self._closed_for)
            )
        if wait := self._rate.wait(self._context.clock.monotonic()):
            return Refusal(status=429, code="rate_limited", title="Too many handshakes", retry_after=max(1.0, wait))
        return None

    def _check(self, request: HandshakeRequest) -> SessionClaims | Refusal:
        """Whether the token is good."""
        now = self._context.clock.wall()
        try:
            claims = self._verifier.verify(request.token.reveal(), now)
        except CredentialError as exc:
            return Refusal(status=exc.status, code=exc.code, title=exc.title, detail=exc.detail)
        if self._context.revocations.revoked(revocation_keys(claims), now):
            return Refusal(
                status=403, code="revoked", title="Revoked", detail="the device or its credential was revoked"
            )
        return claims

    def _fit_in(self, claims: SessionClaims, dial: Dial | None) -> SessionClaims | Refusal:
        """Whether the device has no later tunnel, and there is room for this one."""
        present = self._context.store.find_device(claims.team, claims.device)
        if dial is not None and present is not None and dial.is_before(present.dial):
            return Refusal(
                status=409, code="replaced", title="Replaced", detail="a later dial of this agent has its session"
            )
        if present is None and len(self._context.live) >= self._limits.max_tunnels:
            return Refusal(
                status=503,
                code="over_capacity",
                title="Over capacity",
                detail="the relay has as many tunnels as it may have",
                retry_after=self._limits.retry_after,
            )
        return claims
