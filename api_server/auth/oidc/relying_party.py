"""The relying party: the pure parts of this package, in the order of a sign-in, with the requests between them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api_server.auth.oidc.claims import (
    ID_TOKEN_TYPES,
    LOGOUT_TOKEN_TYPES,
    LogoutClaims,
    Person,
    Profile,
    check_id_token,
    check_logout_token,
    person_of,
)
from api_server.auth.oidc.errors import InvalidIdTokenError, InvalidLogoutTokenError, ProviderUnavailableError
from api_server.auth.oidc.fetcher import Fetcher
from api_server.auth.oidc.provider import Provider
from api_server.auth.oidc.requests import (
    Client,
    Tokens,
    Transaction,
    authorization_url,
    code_of,
    end_session_url,
    new_transaction,
    read_tokens,
    token_request,
)
from common.clock import Clock

__all__ = ["RelyingParty"]


class RelyingParty:
    """Homeport as a client of one OpenID provider.

    Args:
        issuer: of the provider.
        client: what it knows us as.
        scopes: asked for; `openid` is added when it is missing.
        fetcher: sends requests.
        clock: for the times in tokens.
        offline: ask for an offline token as well (`offline_access`, OpenID Connect Core section 11).
    """

    def __init__(
        self,
        issuer: str,
        client: Client,
        *,
        scopes: Sequence[str],
        fetcher: Fetcher,
        clock: Clock,
        offline: bool = False,
    ) -> None:
        self._client = client
        self._scopes = tuple(dict.fromkeys(["openid", *scopes, *(["offline_access"] if offline else [])]))
        # Without it the provider is to ignore the scope.
        self._more = {"prompt": "consent"} if offline else {}
        self._fetcher = fetcher
        self._clock = clock
        self.provider = Provider(issuer, fetcher, clock)

    @property
    def issuer(self) -> str:
        """Of the provider."""
        return self.provider.issuer

    async def begin(self, redirect_uri: str) -> tuple[str, Transaction]:
        """Begin a sign-in.

        Args:
            redirect_uri: absolute URL of our callback, as it is registered at the provider.

        Returns:
            Where the browser goes, and what it must bring back.

        Raises:
            ProviderUnavailableError: the provider does not answer.
        """
        metadata = await self.provider.metadata()
        transaction = new_transaction(self.issuer, redirect_uri)
        url = authorization_url(metadata, self._client, transaction, scopes=self._scopes, more=self._more)
        return url, transaction

    async def code_of(
        self, transaction: Transaction, *, state: str | None, code: str | None, error: str | None, iss: str | None
    ) -> str:
        """The code in an answer to `transaction`; see `requests.code_of`."""
        return code_of(transaction, await self.provider.metadata(), state=state, code=code, error=error, iss=iss)

    @property
    def scopes(self) -> tuple[str, ...]:
        """What is asked for."""
        return self._scopes

    async def finish(self, transaction: Transaction, code: str) -> Person:
        """Who signed in; see `redeem`."""
        return (await self.redeem(transaction, code))[0]

    async def redeem(self, transaction: Transaction, code: str) -> tuple[Person, Tokens]:
        """Who signed in, and what the provider gave for it.

        Args:
            transaction: that `begin` gave.
            code: that `code_of` gave; it is spent by this call.

        Raises:
            CodeRefusedError: the provider does not take the code.
            InvalidIdTokenError: what it gives for the code does not hold.
            ProviderUnavailableError: it does not answer.
        """
        metadata = await self.provider.metadata()
        grant = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": transaction.redirect_uri,
            "code_verifier": transaction.verifier,
        }
        form, headers = token_request(metadata, self._client, grant)
        tokens = read_tokens(await self._fetcher.post(metadata.token_endpoint, form, headers))
        if tokens.id_token is None:
            raise InvalidIdTokenError("the provider gives no ID token; is openid among oidc_scopes?")
        verified = await self.provider.verified(tokens.id_token, error=InvalidIdTokenError, types=ID_TOKEN_TYPES)
        checked = check_id_token(
            verified,
            issuer=self.issuer,
            client_id=self._client.id,
            nonce=transaction.nonce,
            access_token=tokens.access_token,
            now=self._clock.wall(),
        )
        profile = None
        if not checked.profile.complete and metadata.userinfo_endpoint is not None:
            profile = await self._userinfo(metadata.userinfo_endpoint, tokens.access_token)
        return person_of(checked, profile), tokens

    async def _userinfo(self, url: str, access_token: str) -> Profile:
        answer = await self._fetcher.get(url, {"Authorization": f"Bearer {access_token}"})
        if answer.status != 200:
            raise ProviderUnavailableError(f"the provider's userinfo answers {answer.status}", retry_after=5)
        try:
            return msgspec.json.decode(answer.body, type=Profile)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            # A signed answer (application/jwt) is given only to clients that registered for it.
            raise ProviderUnavailableError("the provider's userinfo makes no sense", retry_after=5) from exc

    async def logout_of(self, token: str) -> LogoutClaims:
        """Whose sessions a logout token ends.

        Raises:
            InvalidLogoutTokenError: it does not hold.
            ProviderUnavailableError: the provider's keys cannot be had.
        """
        verified = await self.provider.verified(token, error=InvalidLogoutTokenError, types=LOGOUT_TOKEN_TYPES)
        return check_logout_token(verified, issuer=self.issuer, client_id=self._client.id, now=self._clock.wall())

    async def end_session_url(self, *, return_to: str) -> str | None:
        """Where the browser signs out at the provider, too; None when there is no such page, or nobody to ask.

        Signing out here must work when the provider is down.
        """
        try:
            metadata = await self.provider.metadata()
        except ProviderUnavailableError:
            return None
        return end_session_url(metadata, self._client, return_to=return_to)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._fetcher.aclose()
