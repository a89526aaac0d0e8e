"""What of the broker is secret, sealed by the custody envelope (C1).

A secret is bound to its team, realm, key, row and version, and to the provider that it is sent to; a token to the same
without the provider. So neither opens in the place of another, and a secret cannot be had by pointing it elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from api_server.broker.records import TokenKey
from api_server.broker.store import SealedSecret, TokenRow
from common.crypto.envelope import Envelope, SealContext
from common.secret import Secret

__all__ = ["Seals"]


class Seals:
    """Seals and opens.

    Args:
        envelope: of the process.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def seal_fields(self, key: TokenKey, uid: str, version: int, provider: str, fields: Mapping[str, str]) -> str:
        """The fields of a secret, as they are kept."""
        return self._envelope.seal(msgspec.json.encode(dict(fields)), _of_secret(key, uid, version, provider))

    def open_fields(self, key: TokenKey, kept: SealedSecret) -> dict[str, str]:
        """The fields of a secret. They go into a request, and nowhere else.

        Raises:
            SealBrokenError, KeyMissingError: they cannot be opened.
        """
        opened = self._envelope.open(kept.sealed, _of_secret(key, kept.uid, kept.version, kept.provider))
        return msgspec.json.decode(opened.reveal(), type=dict[str, str])

    def seal_token(self, key: TokenKey, uid: str, version: int, token: Secret) -> str:
        """A token, as it is kept."""
        return self._envelope.seal(token.reveal().encode(), _of_token(key, uid, version))

    def open_token(self, key: TokenKey, row: TokenRow) -> Secret:
        """A token.

        Raises:
            SealBrokenError, KeyMissingError: it cannot be opened.
        """
        assert row.sealed is not None
        return self._envelope.open(row.sealed, _of_token(key, row.uid, row.version)).text()


def _of_secret(key: TokenKey, uid: str, version: int, provider: str) -> SealContext:
    return SealContext(
        kind="realm_secret", team=key.team, owner=key.realm, name=f"{key.key} {provider}", id=uid, version=version
    )


def _of_token(key: TokenKey, uid: str, version: int) -> SealContext:
    return SealContext(kind="realm_token", team=key.team, owner=key.realm, name=key.key, id=uid, version=version)
