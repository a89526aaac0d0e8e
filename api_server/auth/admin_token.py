"""The first source of identity: one administration token, in a 0600 file, for one team and the whole installation.

It is what `homeport up` makes, and what the first person of an installation starts with. Only a keyed hash of the
token is kept in memory, under a key that is drawn at each start.
"""

from __future__ import annotations

import hmac
import math
import secrets
from pathlib import Path

from api_server.auth.errors import TooManyAttemptsError
from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Identity
from common.clock import Clock
from common.crypto.api_tokens import checksum_holds, hash_token, new_api_token, start
from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import ensure_secret, read_secret
from common.guesses import GuessLimiter
from common.ids import TeamId
from common.secret import Secret

__all__ = ["AdminTokenAuthenticator", "ensure_admin_token"]


def ensure_admin_token(path: Path) -> Secret:
    """The administration token in `path`; a fresh one is written there when there is none.

    Raises:
        KeyFileError: the file cannot be made, or not be trusted.
    """
    return ensure_secret(path, new_api_token)


class AdminTokenAuthenticator:
    """Knows one token. Never has to wait.

    Args:
        token: the administration token; it is not kept.
        team: the team that it belongs to.
        clock: for the limit on wrong tokens.
        guesses: counts them.

    Raises:
        ValueError: `token` has not the shape of a token.
    """

    __slots__ = ("_clock", "_digest", "_guesses", "_identity", "_key")

    def __init__(self, token: Secret, team: TeamId, *, clock: Clock, guesses: GuessLimiter) -> None:
        if not checksum_holds(token.reveal()):
            raise ValueError("the administration token has not the shape of one; was it cut off?")
        self._key = secrets.token_bytes(32)
        self._digest = hash_token(self._key, token)
        self._clock = clock
        self._guesses = guesses
        self._identity = Identity(
            kind="token",
            id=start(token),
            name="administration token",
            teams={team: frozenset(Action) - INSTALLATION_ACTIONS},
            installation=INSTALLATION_ACTIONS,
        )

    @classmethod
    def from_file(cls, path: Path, team: TeamId, *, clock: Clock, guesses: GuessLimiter) -> AdminTokenAuthenticator:
        """The authenticator whose token is in `path`.

        Raises:
            KeyFileError: the file cannot be read or trusted, or holds no token.
        """
        try:
            return cls(read_secret(path), team, clock=clock, guesses=guesses)
        except ValueError as exc:
            raise KeyFileError(f"{path}: {exc}") from None

    def recognise(self, credential: Secret) -> Identity | None:
        """The administration token's identity, if it is what is shown."""
        return self._identity if hmac.compare_digest(hash_token(self._key, credential), self._digest) else None

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | None:
        # The right token first: nearly every request shows it, and the checksum is there to spare wrong ones a look-up.
        identity = self.recognise(credential)
        if identity is not None:
            return identity
        if not checksum_holds(credential.reveal()):
            return None
        retry_after = self._guesses.wrong(address, self._clock.monotonic())
        if retry_after is not None:
            raise TooManyAttemptsError("too many wrong tokens from this address", retry_after=math.ceil(retry_after))
        return None

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        return self.authenticate_nowait(credential, address=address)
