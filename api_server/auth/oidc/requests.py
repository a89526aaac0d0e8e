"""What is sent to the provider, and what its answers say. No I/O.

authorization request    Core 3.1.2.1, with PKCE S256 (RFC 7636), state and nonce, always
authorization response   Core 3.1.2.5 and RFC 9207: the `iss` parameter, so that providers cannot be mixed up
token request            RFC 6749 sections 4.1.3 and 4.4, with RFC 6749 section 2.3.1 for the client's secret
end session              RP-Initiated Logout 2
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode

import msgspec

from api_server.auth.oidc.answer import Answer
from api_server.auth.oidc.errors import (
    CodeRefusedError,
    InvalidCallbackError,
    ProviderUnavailableError,
    SignInRefusedError,
)
from api_server.auth.oidc.metadata import ProviderMetadata
from common.secret import Secret

__all__ = [
    "Client",
    "Tokens",
    "Transaction",
    "authorization_url",
    "code_of",
    "end_session_url",
    "new_transaction",
    "read_tokens",
    "token_request",
]

_MAX_CODE = 4096
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
"""An error code of a provider that may be shown: nothing of its free text is."""


@dataclass(frozen=True, slots=True)
class Client:
    """What the provider knows us as."""

    id: str
    secret: Secret | None = None
    """None for a public client, whose one proof is PKCE."""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that has begun. Whoever holds it is the browser that began it."""

    state: str
    nonce: str
    verifier: str
    issuer: str
    redirect_uri: str
    """The token request repeats it (RFC 6749 section 4.1.3)."""


def new_transaction(issuer: str, redirect_uri: str) -> Transaction:
    """A fresh one: 256 random bits for each of its secrets."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Transaction(state=state, nonce=nonce, verifier=verifier, issuer=issuer, redirect_uri=redirect_uri)


def authorization_url(
    metadata: ProviderMetadata,
    client: Client,
    transaction: Transaction,
    *,
    scopes: Sequence[str],
    more: Mapping[str, str] | None = None,
) -> str:
    """Where the browser goes to sign in, or to give its consent.

    Args:
        metadata: of the provider.
        client: ours.
        transaction: the sign-in.
        scopes: with `openid` among them, for a sign-in.
        more: further parameters; none of them replaces one of those here.
    """
    challenge = base64.urlsafe_b64encode(hashlib.sha256(transaction.verifier.encode()).digest()).rstrip(b"=").decode()
    return _with_query(
        metadata.authorization_endpoint,
        dict(more or {})
        | {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": transaction.redirect_uri,
            **({"scope": " ".join(scopes)} if scopes else {}),
            "state": transaction.state,
            "nonce": transaction.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        },
    )


def code_of(
    transaction: Transaction,
    metadata: ProviderMetadata,
    *,
    state: str | None,
    code: str | None,
    error: str | None,
    iss: str | None,
) -> str:
    """The authorization code of an answer to `transaction`.

    Args:
        transaction: that the browser began.
        metadata: of the provider.
        state: and the other parameters of the answer, None where it has none.

    Raises:
        InvalidCallbackError: it is not an answer to that.
        SignInRefusedError: the provider says no.
    """
    if state is None or not hmac.compare_digest(state.encode(), transaction.state.encode()):
        raise InvalidCallbackError("state: the answer belongs to another sign-in")
    if transaction.issuer != metadata.issuer:
        raise InvalidCallbackError("the sign-in began at another provider; begin anew")
    # RFC 9207 section 2.4: before anything else of the answer is believed, its error too.
    if iss is None and metadata.authorization_response_iss_parameter_supported:
        raise InvalidCallbackError("iss: the provider says that it names itself, and the answer does not")
    if iss is not None and iss != metadata.issuer:
        raise InvalidCallbackError("iss: the answer comes from another provider")
    if error is not None:
        shown = error if _PLAIN.fullmatch(error) else "an error"
        if error in ("temporarily_unavailable", "server_error"):
            raise ProviderUnavailableError(f"the provider says {shown}", retry_after=5)
        raise SignInRefusedError(f"the provider says {shown}")
    if not code or len(code) > _MAX_CODE:
        raise InvalidCallbackError("code: the answer holds none")
    return code


def token_request(
    metadata: ProviderMetadata, client: Client, parameters: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Form and header fields of a request to the token endpoint, with proof of who asks.

    Args:
        metadata: of the provider, which says how it wants to be shown the secret.
        client: ours.
        parameters: the grant.
    """
    form = dict(parameters)
    if client.secret is None:
        return form | {"client_id": client.id}, {}
    methods = metadata.token_endpoint_auth_methods_supported
    if "client_secret_basic" not in methods and "client_secret_post" in methods:
        return form | {"client_id": client.id, "client_secret": client.secret.reveal()}, {}
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined, or a colon would split them elsewhere.
    pair = f"{quote_plus(client.id)}:{quote_plus(client.secret.reveal())}"
    return form, {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a token endpoint gives (RFC 6749 section 5.1, Core section 3.1.3.3)."""

    access_token: str
    token_type: str
    id_token: str | None = None
    expires_in: float | None = None
    refresh_token: str | None = None
    refresh_expires_in: float | None = None
    """Seconds; not of a specification, but several providers say it."""
    scope: str | None = None

    def __repr__(self) -> str:
        return "Tokens(***)"


class _TokenError(msgspec.Struct, frozen=True):
    error: str


def read_tokens(answer: Answer) -> Tokens:
    """What the token endpoint answered.

    Raises:
        CodeRefusedError: it does not take the grant.
        ProviderUnavailableError: it does not take us, or its answer makes no sense.
    """
    if answer.status == 200:
        try:
            tokens = msgspec.json.decode(answer.body, type=Tokens)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise ProviderUnavailableError("the provider's token answer makes no sense", retry_after=5) from exc
        if tokens.token_type.lower() != "bearer":
            raise ProviderUnavailableError("the provider gives tokens of an unknown type", retry_after=60)
        return tokens
    try:
        error = msgspec.json.decode(answer.body, type=_TokenError).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        error = ""
    shown = error if _PLAIN.fullmatch(error) else f"status {answer.status}"
    if error == "invalid_grant":
        raise CodeRefusedError("the code was used, is too old, or was given to somebody else; sign in once more")
    raise ProviderUnavailableError(f"the provider refuses Homeport as its client: {shown}", retry_after=60)


def end_session_url(metadata: ProviderMetadata, client: Client, *, return_to: str) -> str | None:
    """Where the browser goes to sign out at the provider, too; None when the provider has no such page.

    Args:
        metadata: of the provider.
        client: ours.
        return_to: absolute URL that the provider may send the browser to; it must be registered there.
    """
    if metadata.end_session_endpoint is None:
        return None
    parameters = {"client_id": client.id, "post_logout_redirect_uri": return_to}
    return _with_query(metadata.end_session_endpoint, parameters)


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    return url + ("&" if "?" in url else "?") + urlencode(parameters)
