"""Which credential a request shows, found in its raw headers: for the API and the gateway alike.

    Authorization: Bearer hp_...            programs
    X-API-Key: hp_...                       programs
    Authorization: Basic base64(any:hp_...) a browser that asked its user; the user name is not looked at

A header that carries something else is not ours: behind the gateway it may be the device's own affair, and passes. Two
of ours must be equal. A token in the query string is refused, valid or not, because the URL is already in some log.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from api_server.auth.errors import ConflictingCredentialsError, CredentialInQueryError
from common.crypto.api_tokens import API_TOKEN_PREFIX
from common.secret import Secret

__all__ = ["Presented", "challenges", "presented"]

_PREFIX = API_TOKEN_PREFIX.encode()
_MAX_LENGTH = 512
"""Bytes of a header value that is looked at; a token has 52."""

_TOKEN_IN_QUERY = re.compile(rb"(?<![0-9A-Za-z])hp[a-z]?_[0-9A-Za-z]{49}(?![0-9A-Za-z])")


def challenges(realm: str = "homeport") -> tuple[str, str]:
    """The values of `WWW-Authenticate` of a 401, each for a header line of its own: in a line with two challenges
    Chromium sees the first, and would not ask its user (RFC 9110 section 11.6.1 allows both).

    Args:
        realm: protection space of the password that a browser asks for (RFC 7617 section 2).
    """
    return 'Bearer realm="homeport"', f'Basic realm="{realm}", charset="UTF-8"'


@dataclass(frozen=True, slots=True)
class Presented:
    """The credential of a request."""

    credential: Secret
    headers: frozenset[bytes]
    """The lower-case names of the headers that carried it: a gateway must not pass them on."""


def presented(headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> Presented | None:
    """The credential that a request shows; None when it shows none of ours.

    Args:
        headers: names, in any case, and values, as received.
        query: the raw query string, without the question mark.

    Raises:
        ConflictingCredentialsError: two of ours, and they differ.
        CredentialInQueryError: the query string holds a token.
    """
    if query and _has_token(query):
        raise CredentialInQueryError(
            "send the token in the Authorization header; this one is in a URL now and should be revoked"
        )
    found: bytes | None = None
    carriers: list[bytes] = []
    for name, value in headers:
        # Lengths first: this runs for each header of each request through the gateway.
        length = len(name)
        if length == 13 and name.lower() == b"authorization":
            token = _of_authorization(value)
        elif length == 9 and name.lower() == b"x-api-key":
            token = value.strip(b" \t")
        else:
            continue
        if token is None or not token.startswith(_PREFIX) or len(token) > _MAX_LENGTH:
            continue
        if found is not None and token != found:
            raise ConflictingCredentialsError("the request shows two different tokens; send one")
        found = token
        carriers.append(name.lower())
    if found is None:
        return None
    return Presented(Secret(found.decode("latin-1")), frozenset(carriers))


def _of_authorization(value: bytes) -> bytes | None:
    """The token in an `Authorization` value: `scheme SP credentials` (RFC 9110 section 11.4)."""
    scheme, _, rest = value.strip(b" \t").partition(b" ")
    if len(rest) > _MAX_LENGTH:
        return None
    match scheme.lower():
        case b"bearer":
            return rest.strip(b" ")
        case b"basic":
            try:
                decoded = base64.b64decode(rest.strip(b" "), validate=True)
            except binascii.Error:
                return None
            return decoded.partition(b":")[2]
        case _:
            return None


def _has_token(query: bytes) -> bool:
    if b"hp" not in query and b"%" not in query:
        return False
    return _TOKEN_IN_QUERY.search(unquote_to_bytes(query) if b"%" in query else query) is not None
