"""Who may use internal HTTP: the holder of the internal key, or of a certificate of the internal authority."""

from __future__ import annotations

import hmac

from common.secret import Secret
from remote_proxy.errors import UnauthenticatedError

__all__ = ["Authentication"]

_SCHEME = b"bearer "


class Authentication:
    """The check of `Authorization: Bearer <internal key>`, in constant time.

    Args:
        key: the key that relay and API server share. None when the listener demands a client certificate instead: the
            TLS handshake has then refused everyone else before a byte of HTTP was read.
    """

    __slots__ = ("_expected",)

    def __init__(self, key: Secret | None) -> None:
        self._expected = key.reveal().encode() if key is not None else None

    def check(self, authorization: bytes | None) -> None:
        """Return if the header holds the key.

        Raises:
            UnauthenticatedError: it does not, or there is none. Which of the two is not said.
        """
        if self._expected is None:
            return
        presented = authorization or b""
        # RFC 9110 section 11.1: the scheme is case-insensitive.
        scheme_holds = presented[: len(_SCHEME)].lower() == _SCHEME
        # compare_digest takes as long for a wrong byte at the start as for one at the end.
        if not (hmac.compare_digest(presented[len(_SCHEME) :].strip(), self._expected) and scheme_holds):
            raise UnauthenticatedError("internal HTTP takes the internal key as a bearer token")
