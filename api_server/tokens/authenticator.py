"""The source of identity of programs: the administration token, and API tokens.

    the administration token                      known at once
    remembered, and memory may be trusted         known at once
    remembered to be nobody's, or no token at all  refused at once
    anything else                                 one look into the database, whoever asks at the same time
                                                  ... which is away: 503; a token that is not known is not let in

Memory may be trusted while `Freshness` says so. When it does not, every token is looked up: what the database says is
true, whatever was or was not heard of.

Wrong tokens are counted by address: at first they are answered 401, then 429. Valid tokens from there are answered all
the same: a neighbour's mistakes must not lock an office out. What wrong ones may cost is limited as well: an address
that has made a number of look-ups for nothing has to wait for the next, and meanwhile only what is remembered passes.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.auth.errors import TooManyAttemptsError
from api_server.auth.interfaces import PENDING, Identity, Pending
from api_server.changes.interfaces import Freshness
from api_server.tokens.cache import Verified, VerifiedTokens
from api_server.tokens.errors import AddressNotAllowedError
from api_server.tokens.keys import TokenKeys
from api_server.tokens.last_use import LastUse
from api_server.tokens.metrics import TokenMetrics
from api_server.tokens.verifier import TokenVerifier
from common.clock import Clock
from common.crypto.api_tokens import checksum_holds
from common.guesses import GuessLimiter
from common.secret import Secret

__all__ = ["ProgramAuthenticator"]

_ATTEMPTS: Final = 5
"""Of a question whose answer was overtaken by a change; where changes come that fast, the last answer is taken."""


class ProgramAuthenticator:
    """Implements `Authenticator`.

    Args:
        administration: knows the administration token; None where there is none.
        verifier: knows the others.
        cache: remembers them.
        freshness: whether it may be trusted.
        keys: that tokens are hashed with.
        last_use: told of each use.
        clock: of both kinds.
        guesses: counts wrong tokens by address.
        lookups: counts look-ups for nothing by address.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        administration: AdminTokenAuthenticator | None,
        verifier: TokenVerifier,
        cache: VerifiedTokens,
        freshness: Freshness,
        keys: TokenKeys,
        last_use: LastUse,
        clock: Clock,
        guesses: GuessLimiter,
        lookups: GuessLimiter,
        metrics: TokenMetrics,
    ) -> None:
        self._administration = administration
        self._verifier = verifier
        self._cache = cache
        self._freshness = freshness
        self._keys = keys
        self._last_use = last_use
        self._clock = clock
        self._guesses = guesses
        self._lookups = lookups
        self._metrics = metrics
        self._asking: dict[bytes, asyncio.Future[Verified | None]] = {}
        """Look-ups that are under way."""

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | Pending | None:
        # What programs show as a rule comes first: a hash costs more than all the rest of this.
        digest = self._keys.digest(credential)
        now = self._clock.monotonic()
        known = self._cache.get(digest, now)
        if known is not None and self._freshness.fresh():
            # One that has expired is looked for below, and found to be nobody's: this is no way to learn what it was.
            wall = self._clock.wall()
            if wall < known.expires_at:
                return self._admit(known, address, wall)
        if self._administration is not None:
            identity = self._administration.recognise(credential)
            if identity is not None:
                return identity
        if not checksum_holds(credential.reveal()):
            return None
        if self._cache.nobody(digest, now):
            self._count_wrong(address, now)
            return None
        wait = self._lookups.wait(address, now)
        if wait > 0:
            raise TooManyAttemptsError("too many wrong tokens from this address", retry_after=math.ceil(wait))
        return PENDING

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        at_once = self.authenticate_nowait(credential, address=address)
        if at_once is not PENDING:
            return at_once
        found = await self._ask_once(credential)
        now = self._clock.monotonic()
        if found is None:
            self._lookups.wrong(address, now)
            self._count_wrong(address, now)
            return None
        return self._admit(found, address, self._clock.wall())

    def _admit(self, known: Verified, address: str, wall: float) -> Identity:
        if not known.allows(address):
            raise AddressNotAllowedError("the API token may not be used from this address")
        self._last_use.note(known, wall)
        return known.identity

    def _count_wrong(self, address: str, now: float) -> None:
        """Count a wrong token.

        Raises:
            TooManyAttemptsError: too many came from there.
        """
        retry_after = self._guesses.wrong(address, now)
        if retry_after is not None:
            raise TooManyAttemptsError("too many wrong tokens from this address", retry_after=math.ceil(retry_after))

    async def _ask_once(self, credential: Secret) -> Verified | None:
        """What the database says; one question for all who ask at the same time."""
        digest = self._keys.digest(credential)
        while (asking := self._asking.get(digest)) is not None:
            try:
                return await asyncio.shield(asking)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not asking.cancelled() or (task is not None and task.cancelling()):
                    raise
                # Whoever asked has gone without an answer; one of those who waited asks instead.
        answer: asyncio.Future[Verified | None] = asyncio.get_running_loop().create_future()
        self._asking[digest] = answer
        try:
            found = await self._ask(credential, digest)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as exc:
            answer.set_exception(exc)
            answer.exception()  # perhaps nobody else waits for it
            raise
        else:
            answer.set_result(found)
            return found
        finally:
            del self._asking[digest]

    async def _ask(self, credential: Secret, digest: bytes) -> Verified | None:
        for _ in range(_ATTEMPTS):
            # Before the question: an answer that is overtaken by a change is from before it, and not kept.
            counter, asked_at = self._cache.counter, self._clock.monotonic()
            found = await self._verifier.find(self._keys.candidates(credential), self._clock.wall())
            if counter == self._cache.counter:
                break
        self._metrics.lookups.labels("unknown" if found is None else "known").inc()
        if found is None:
            self._cache.keep_nobody(digest, asked_at, counter=counter)
            return None
        verified = Verified(*found, asked_at)
        self._cache.keep(digest, verified, counter=counter)
        self._metrics.remembered.set(len(self._cache))
        return verified
