"""What a token endpoint says (RFC 6749 sections 5.1 and 5.2). No I/O.

    JSON, or a form        GitHub answers with a form unless asked for JSON, and some proxies drop what asks
    status 200, an error   GitHub: `{"error": "bad_refresh_token"}`
    expires_in missing     never; 0 as well. A number may come as text
    expires_in senseless   an hour: a token that is taken for everlasting would be handed out long after its end
    scope                  a list by blanks (RFC 6749 section 3.3), by commas (GitHub), or as `scopes` (Bitbucket)

Only `invalid_grant` and GitHub's names for it say that a grant is dead. Everything that cannot be understood may have
been done by the provider all the same: `ProviderAwayError.undone` is False.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from api_server.provider_tokens.errors import GrantRefusedError, ProviderAwayError, ProviderRefusesClientError
from common.secret import Secret

__all__ = ["GivenTokens", "error_of", "read_token_answer"]

_TOKEN = re.compile(r"[!-~]{1,16384}", re.ASCII)
"""RFC 6749 appendix A.12 allows blanks as well; RFC 6750 section 2.1, by which tokens are shown, does not."""
_SCOPE = re.compile(r"[^\s,]{1,200}")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
"""An error code that may be shown: nothing of a provider's free text is."""

_DEAD: Final = frozenset({"invalid_grant", "bad_refresh_token", "bad_verification_code"})
"""RFC 6749 section 5.2, and what GitHub says in its place."""
_LATER: Final = frozenset({"slow_down", "temporarily_unavailable", "server_error"})

_SENSELESS_LIFETIME = 3600.0
_MAX_LIFETIME = 100 * 365 * 86400.0
"""Seconds."""
_MAX_FIELDS = 64
_MAX_SCOPES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTokens:
    """What a provider gave."""

    access_token: Secret
    refresh_token: Secret | None = None
    """None where it gives none; of a refresh: the one that was shown goes on to hold (RFC 6749 section 6)."""
    expires_in: float | None = None
    """Seconds that the access token lives; None for ever."""
    refresh_expires_in: float | None = None
    """Seconds that the refresh token lives; None when the provider does not say."""
    scopes: tuple[str, ...] | None = None
    """None: those that were asked for."""
    id_token: Secret | None = None


def read_token_answer(status: int, body: bytes) -> GivenTokens:
    """The tokens in an answer of a token endpoint.

    Args:
        status: of HTTP.
        body: whole.

    Raises:
        GrantRefusedError: the provider does not take the code or the refresh token.
        ProviderAwayError: it cannot tell now, or what it says makes no sense.
        ProviderRefusesClientError: it does not take Homeport, or this request.
    """
    content = _content(body)
    error = error_of(content)
    if error is not None:
        raise _refusal(status, error)
    if status != 200:
        raise _refusal(status, "")
    access = _token(content, "access_token")
    if access is None:
        raise ProviderAwayError("the provider's token answer makes no sense")
    kind = content.get("token_type")
    if isinstance(kind, str) and kind.lower() != "bearer":
        raise ProviderAwayError("the provider gives tokens of an unknown type", retry_after=60)
    return GivenTokens(
        access_token=access,
        refresh_token=_token(content, "refresh_token"),
        expires_in=_lifetime(content.get("expires_in")),
        refresh_expires_in=_lifetime(content.get("refresh_token_expires_in", content.get("refresh_expires_in"))),
        scopes=_scopes(content.get("scope", content.get("scopes"))),
        id_token=_token(content, "id_token"),
    )


def error_of(content: dict[str, Any]) -> str | None:
    """The error code in a decoded answer; None when it holds none, "" when it is nothing to show."""
    error = content.get("error")
    if error is None:
        return None
    return error if isinstance(error, str) and _PLAIN.fullmatch(error) is not None else ""


def _refusal(status: int, error: str) -> GrantRefusedError | ProviderAwayError | ProviderRefusesClientError:
    if error in _DEAD:
        return GrantRefusedError(error)
    shown = error or f"status {status}"
    if status == 429 or error in _LATER:
        return ProviderAwayError(f"the provider says {shown}", undone=status == 429 or error == "slow_down")
    if status >= 500:
        return ProviderAwayError(f"the provider says {shown}")
    return ProviderRefusesClientError(f"the provider says {shown}; look at client_id, client_secret and scopes")


def _content(body: bytes) -> dict[str, Any]:
    """The members of an answer; none when it is neither JSON nor a form."""
    if body.lstrip()[:1] == b"{":
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        return {}
    members = dict(pairs)
    # One name twice: which of them counts must not depend on who reads it.
    return members if len(members) == len(pairs) else {}


def _token(content: dict[str, Any], name: str) -> Secret | None:
    value = content.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ProviderAwayError(f"the provider's {name} makes no sense")
    return Secret(value)


def _lifetime(value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if seconds == 0:
        return None
    return min(seconds, _MAX_LIFETIME) if seconds > 0 else _SENSELESS_LIFETIME


def _scopes(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value)
    if not isinstance(value, list):
        return None
    found = [each for each in value if isinstance(each, str) and _SCOPE.fullmatch(each) is not None]
    return tuple(dict.fromkeys(found))[:_MAX_SCOPES]
