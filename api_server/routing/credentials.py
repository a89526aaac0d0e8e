"""What requests show to the service or backend of a route: an `UpstreamCredential` of the gateway each.

SecretCredential    from an upstream secret, opened when the first request needs it
BrokeredCredential  a token of a provider, as the broker has it; another one, once, when a backend answers 401 to it
NoCredential        there ought to be one and is not: every request is refused (G2), none is sent without it
"""

from __future__ import annotations

import base64
import re
from typing import Final

from api_server.auth.interfaces import PENDING
from api_server.broker.interfaces import TokenSource
from api_server.gateway.fields import FieldKind, kind_of
from api_server.routing.errors import CredentialUnavailableError
from api_server.routing.records import AuthKind, UpstreamAuth
from api_server.routing.secrets import seal_context
from api_server.routing.store import TableRow
from common.crypto.envelope import Envelope
from common.crypto.errors import SealError
from common.errors import HomeportError
from common.ids import TeamId
from common.logging import get_logger
from common.secret import Secret, SecretBytes

__all__ = ["BrokeredCredential", "NoCredential", "SecretCredential", "credential_of", "header_of"]

_log = get_logger(__name__)

_DEFAULT_HEADER: Final = "X-API-Key"

_BEARER: Final = b"Authorization: Bearer "


def header_of(auth: UpstreamAuth) -> str:
    """The header in which a credential is shown."""
    if auth.kind is AuthKind.API_KEY:
        return auth.header if auth.header is not None else _DEFAULT_HEADER
    return "Authorization"


def lines_named(header: str) -> re.Pattern[bytes]:
    """Matches the lines of a field section that have this name, or one that CGI cannot tell from it."""
    name = rb"[-_]".join(re.escape(part) for part in header.encode("ascii").split(b"-"))
    return re.compile(rb"^%b[ \t]*:[^\n]*\n" % name, re.IGNORECASE | re.MULTILINE)


def _is_carrier(header: str) -> bool:
    return kind_of(header.encode("ascii")) is FieldKind.CREDENTIAL


class NoCredential:
    """Refuses.

    Args:
        header: in which it would be.
        reason: for whoever calls.
    """

    __slots__ = ("_reason", "by_carrier", "hides")

    def __init__(self, header: str, reason: str) -> None:
        self.hides = lines_named(header)
        self.by_carrier = _is_carrier(header)
        self._reason = reason

    @property
    def renewable(self) -> bool:
        return False

    def lines_nowait(self) -> bytes:
        raise CredentialUnavailableError(self._reason)

    async def lines(self) -> bytes:
        raise CredentialUnavailableError(self._reason)

    async def renew(self, refused: bytes) -> bytes:  # noqa: ARG002
        raise CredentialUnavailableError(self._reason)


class SecretCredential:
    """Shows an upstream secret.

    Args:
        envelope: opens it.
        row: of the route, with the secret.
    """

    __slots__ = ("_auth", "_envelope", "_lines", "_row", "by_carrier", "hides")

    def __init__(self, envelope: Envelope, row: TableRow) -> None:
        self._auth = row.route.auth
        self._envelope = envelope
        self._row = row
        self._lines: SecretBytes | None = None
        header = header_of(self._auth)
        self.hides = lines_named(header)
        self.by_carrier = _is_carrier(header)

    def lines_nowait(self) -> bytes:
        """The line.

        Raises:
            CredentialUnavailableError: the secret cannot be opened.
        """
        if self._lines is None:
            self._lines = SecretBytes(b"%b: %b\r\n" % (header_of(self._auth).encode("ascii"), self._value()))
        return self._lines.reveal()

    @property
    def renewable(self) -> bool:
        return False

    async def lines(self) -> bytes:
        return self.lines_nowait()

    async def renew(self, refused: bytes) -> bytes:  # noqa: ARG002
        raise CredentialUnavailableError("an upstream secret is what it is")

    def _value(self) -> bytes:
        row = self._row
        assert row.secret_id is not None
        assert row.secret_name is not None
        assert row.secret_value is not None
        assert row.secret_version is not None
        context = seal_context(row.route.team, row.secret_id, row.secret_name, row.secret_version)
        try:
            secret = self._envelope.open(row.secret_value, context).reveal()
        except SealError as exc:
            _log.error("an upstream secret cannot be opened", route=row.route.id, secret=row.secret_id, code=exc.code)
            raise CredentialUnavailableError("the secret that the route shows cannot be opened") from exc
        match self._auth.kind:
            case AuthKind.BEARER:
                return b"Bearer " + secret
            case AuthKind.BASIC:
                user = self._auth.username
                pair = secret if user is None else b"%b:%b" % (user.encode(), secret)
                return b"Basic " + base64.b64encode(pair)
            case _:
                return secret


class BrokeredCredential:
    """Shows a token of a provider.

    Args:
        tokens: has it.
        team: whose realm it is.
        realm: its id.
        key: of the secret in it.
    """

    __slots__ = ("_key", "_realm", "_team", "_tokens", "by_carrier", "hides")

    def __init__(self, tokens: TokenSource, team: TeamId, realm: str, key: str) -> None:
        self._tokens = tokens
        self._team = team
        self._realm = realm
        self._key = key
        self.hides = lines_named("Authorization")
        self.by_carrier = True

    @property
    def renewable(self) -> bool:
        return True

    def lines_nowait(self) -> bytes | None:
        token = self._tokens.token_nowait(self._team, self._realm, self._key)
        return None if token is PENDING else _bearer(token)

    async def lines(self) -> bytes:
        """The line.

        Raises:
            CredentialUnavailableError: the broker has no token.
        """
        try:
            return _bearer(await self._tokens.token(self._team, self._realm, self._key))
        except HomeportError as exc:
            raise self._unavailable(exc) from exc

    async def renew(self, refused: bytes) -> bytes:
        """The line with another token than that in `refused`.

        Raises:
            CredentialUnavailableError: the broker has none.
        """
        shown = Secret(refused.removeprefix(_BEARER).removesuffix(b"\r\n").decode("latin-1"))
        try:
            return _bearer(await self._tokens.refused(self._team, self._realm, self._key, shown))
        except HomeportError as exc:
            raise self._unavailable(exc) from exc

    def _unavailable(self, exc: HomeportError) -> CredentialUnavailableError:
        return CredentialUnavailableError(
            f"the token of {self._realm}/{self._key} that the route shows cannot be had ({exc.code})",
            retry_after=exc.retry_after,
        )


def _bearer(token: Secret) -> bytes:
    return b"%b%b\r\n" % (_BEARER, token.reveal().encode("latin-1", "replace"))


def credential_of(
    envelope: Envelope, tokens: TokenSource, row: TableRow
) -> SecretCredential | BrokeredCredential | NoCredential | None:
    """What requests of a route show; None for nothing.

    Args:
        envelope: opens the secret.
        tokens: has tokens of providers.
        row: of the route.
    """
    auth = row.route.auth
    if auth.kind is AuthKind.NONE:
        return None
    if auth.realm is not None and auth.key is not None:
        return BrokeredCredential(tokens, row.route.team, auth.realm, auth.key)
    if row.secret_value is None:
        return NoCredential(header_of(auth), "the secret that the route shows is not there")
    if row.secret_destination != row.destination:
        return NoCredential(header_of(auth), "the secret that the route shows is for another destination")
    return SecretCredential(envelope, row)
