"""Homeport as the client of one provider.

    begin      where the browser goes: PKCE S256, state and nonce, always
    code_of    what it brings back, checked as in a sign-in (state, issuer, error)
    redeem     the code, for tokens; of an OpenID provider the ID token is checked
    refresh    a refresh token, for tokens; sent once and never again from here
    revoke     take the grant back

What goes wrong is one of the errors of this domain, whichever part of sign-in had noticed it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from api_server.auth.oidc.claims import ID_TOKEN_TYPES, check_id_token, person_of
from api_server.auth.oidc.errors import (
    InvalidCallbackError,
    InvalidIdTokenError,
    ProviderUnavailableError,
    SignInRefusedError,
)
from api_server.auth.oidc.metadata import ProviderMetadata
from api_server.auth.oidc.provider import Provider
from api_server.auth.oidc.requests import (
    Client,
    Transaction,
    authorization_url,
    code_of,
    new_transaction,
    token_request,
)
from api_server.provider_tokens.errors import (
    ConnectCodeRefusedError,
    ConsentRefusedError,
    GrantRefusedError,
    InvalidConnectCallbackError,
    ProviderAwayError,
    ProviderRefusesClientError,
)
from api_server.provider_tokens.providers.answers import GivenTokens, read_token_answer
from api_server.provider_tokens.providers.kinds import Revocation, kind_of
from api_server.provider_tokens.providers.sending import NotAskedError, ProviderHttp
from api_server.provider_tokens.settings import ProviderSettings
from common.clock import Clock
from common.secret import Secret

__all__ = ["ProviderClient", "Redeemed"]


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a code gave."""

    tokens: GivenTokens
    account: str | None
    """Who the person is at the provider, where it says so by itself: an e-mail address, or an id."""


class ProviderClient:
    """One provider.

    Args:
        name: as it stands in paths.
        settings: what is said about it.
        http: sends requests.
        clock: for the age of its description, and the times in ID tokens.
    """

    def __init__(self, name: str, settings: ProviderSettings, *, http: ProviderHttp, clock: Clock) -> None:
        self.name = name
        self.kind = settings.kind_of(name)
        self.title = settings.title or name
        self._settings = settings
        self._kind = kind_of(self.kind)
        self.url = (settings.url or self._kind.default_url).removesuffix("/")
        """Base URL, or issuer, for people."""
        self.scopes = self._kind.default_scopes if settings.scopes is None else settings.scopes
        self.refresh_margin = settings.refresh_margin
        """Seconds before the end of an access token, as set."""
        self._client = Client(settings.client_id, settings.client_secret)
        self._http = http
        self._clock = clock
        self._described = self._kind.describe(self.url)
        self._provider = None if self._described is not None else Provider(settings.url or "", http, clock)

    async def _metadata(self) -> ProviderMetadata:
        if self._described is not None:
            return self._described
        assert self._provider is not None
        with self._asked():
            return await self._provider.metadata()

    async def begin(self, redirect_uri: str) -> tuple[str, Transaction]:
        """Where a browser goes to give its consent, and what has to be known when it comes back.

        Raises:
            ProviderAwayError: its description cannot be had.
        """
        metadata = await self._metadata()
        transaction = new_transaction(metadata.issuer, redirect_uri)
        parameters = self._kind.parameters(self.scopes) | self._settings.parameters
        return (
            authorization_url(metadata, self._client, transaction, scopes=self.scopes, more=parameters),
            transaction,
        )

    async def code_of(
        self, transaction: Transaction, *, state: str | None, code: str | None, error: str | None, iss: str | None
    ) -> str:
        """The code in an answer to `transaction`.

        Raises:
            ConsentRefusedError: the provider says no.
            InvalidConnectCallbackError: it is not an answer to that.
            ProviderAwayError: the provider says that it cannot tell now.
        """
        metadata = await self._metadata()
        with self._asked():
            try:
                return code_of(transaction, metadata, state=state, code=code, error=error, iss=iss)
            except InvalidCallbackError as exc:
                raise InvalidConnectCallbackError(exc.detail) from exc
            except SignInRefusedError as exc:
                raise ConsentRefusedError(exc.detail) from exc

    async def redeem(self, transaction: Transaction, code: str) -> Redeemed:
        """Tokens for a code, which is spent by this call.

        Raises:
            ConnectCodeRefusedError: the provider does not take the code, or what it gives for it does not hold.
            ProviderAwayError: it does not answer.
            ProviderRefusesClientError: it does not take Homeport.
        """
        grant = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": transaction.redirect_uri,
            "code_verifier": transaction.verifier,
        }
        try:
            tokens = await self._tokens(grant)
        except GrantRefusedError as exc:
            raise ConnectCodeRefusedError("the code was used, is too old, or is not ours; connect once more") from exc
        return Redeemed(tokens, await self._account(transaction, tokens))

    async def refresh(self, refresh_token: Secret) -> GivenTokens:
        """Tokens for a refresh token, which may be spent by this call, whatever comes of it.

        Raises:
            GrantRefusedError: the provider does not take it.
            ProviderAwayError: the provider does not answer; `undone` tells whether it may have taken it all the same.
            ProviderRefusesClientError: it does not take Homeport.
        """
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()})

    async def revoke(self, access: Secret | None, refresh: Secret | None) -> bool:
        """Take a grant back.

        Returns:
            Whether the provider says that it is taken back; False where there is no way but the person's own.

        Raises:
            ProviderAwayError: the provider does not answer.
            ProviderRefusesClientError: it refuses.
        """
        requests = self._kind.revocations(await self._metadata(), self._settings, access, refresh)
        for request in requests:
            await self._revoke(request)
        return bool(requests)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _revoke(self, request: Revocation) -> None:
        with self._asked():
            if request.method == "DELETE":
                answer = await self._http.delete(request.url, request.content, request.headers)
            else:
                answer = await self._http.post(request.url, request.form, request.headers)
        if answer.status not in request.done:
            raise ProviderRefusesClientError(f"{self.name} answers {answer.status} to the revocation")

    async def _tokens(self, grant: Mapping[str, str]) -> GivenTokens:
        metadata = await self._metadata_before()
        form, headers = token_request(metadata, self._client, grant)
        with self._asked():
            answer = await self._http.post(metadata.token_endpoint, form, {"Accept": "application/json", **headers})
        return read_token_answer(answer.status, answer.body)

    async def _metadata_before(self) -> ProviderMetadata:
        """The description that a token request needs: without it nothing is sent, and nothing is spent."""
        try:
            return await self._metadata()
        except ProviderAwayError as exc:
            raise ProviderAwayError(exc.detail, retry_after=exc.retry_after, undone=True) from exc

    async def _account(self, transaction: Transaction, tokens: GivenTokens) -> str | None:
        if self._provider is None or "openid" not in self.scopes:
            return None
        if tokens.id_token is None:
            raise ConnectCodeRefusedError("the provider gives no ID token, though openid was asked for")
        try:
            with self._asked():
                verified = await self._provider.verified(
                    tokens.id_token.reveal(), error=InvalidIdTokenError, types=ID_TOKEN_TYPES
                )
            checked = check_id_token(
                verified,
                issuer=self._provider.issuer,
                client_id=self._client.id,
                nonce=transaction.nonce,
                access_token=tokens.access_token.reveal(),
                now=self._clock.wall(),
            )
        except InvalidIdTokenError as exc:
            raise ConnectCodeRefusedError(f"its ID token does not hold: {exc.detail}") from exc
        person = person_of(checked, None)
        return person.email or person.subject

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Say in this domain's words that the provider does not answer."""
        try:
            yield
        except ProviderUnavailableError as exc:
            undone = isinstance(exc, NotAskedError)
            raise ProviderAwayError(exc.detail, retry_after=exc.retry_after, undone=undone) from exc
