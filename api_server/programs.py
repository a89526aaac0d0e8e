"""Programs and their tokens, put together from their parts: part of the composition root, which `server` is.

ProgramAuthenticator ── VerifiedTokens ── TokenVerifier ── Database
    └── LastUse                └── ChangeFeed: forget
ExpiryWarnings
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.changes.feed import ChangeFeed
from api_server.changes.interfaces import ChangeLog
from api_server.db.database import Database
from api_server.teams.interfaces import Memberships
from api_server.tokens.authenticator import ProgramAuthenticator
from api_server.tokens.cache import VerifiedTokens
from api_server.tokens.expiry import ExpiryWarnings
from api_server.tokens.keys import TokenKeys
from api_server.tokens.last_use import LastUse
from api_server.tokens.metrics import TokenMetrics
from api_server.tokens.verifier import TokenVerifier
from common.clock import Clock
from common.guesses import GuessLimiter

__all__ = ["Programs"]


class Programs:
    """Everything about programs that show tokens, but the making of tokens.

    Args:
        database: of the tokens.
        feed: tells what was changed, and whether that is known.
        changes: is told of warnings.
        memberships: what people may do.
        keys: that tokens are hashed with.
        administration: knows the administration token; None where there is none.
        guesses: counts wrong tokens by address.
        clock: of both kinds.
        registry: that shows the metrics.
    """

    def __init__(
        self,
        *,
        database: Database,
        feed: ChangeFeed,
        changes: ChangeLog,
        memberships: Memberships,
        keys: TokenKeys,
        administration: AdminTokenAuthenticator | None,
        guesses: GuessLimiter,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        metrics = TokenMetrics(registry)
        cache = VerifiedTokens()
        for listener in cache.listeners():
            feed.add(listener)
        self.verifier = TokenVerifier(database, memberships)
        self.last_use = LastUse(database, metrics)
        self.warnings = ExpiryWarnings(database, changes, clock)
        self.authenticator = ProgramAuthenticator(
            administration=administration,
            verifier=self.verifier,
            cache=cache,
            freshness=feed,
            keys=keys,
            last_use=self.last_use,
            clock=clock,
            guesses=guesses,
            # 50 at once, then ten a second: enough for whoever starts again in a large office behind one address.
            lookups=GuessLimiter(burst=50, interval=0.1),
            metrics=metrics,
        )
