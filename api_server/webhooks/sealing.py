"""The secrets of webhooks: sealed in the database, opened to sign."""

from __future__ import annotations

from api_server.webhooks.records import Webhook
from api_server.webhooks.store import SealedSecrets
from common.crypto.envelope import Envelope, SealContext
from common.ids import TeamId

__all__ = ["WebhookSecrets"]


class WebhookSecrets:
    """Seals and opens them.

    Args:
        envelope: that seals.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    def seal(self, secret: bytes, team: TeamId, webhook: str, version: int) -> str:
        """A secret as it is kept."""
        return self._envelope.seal(secret, _context(team, webhook, version))

    def keys(self, webhook: Webhook, sealed: SealedSecrets, now: float) -> list[bytes]:
        """The secrets that hold, the newest first.

        Raises:
            CredentialError: one cannot be opened.
        """
        found = [self._envelope.open(sealed.secret, _context(webhook.team, webhook.id, sealed.version)).reveal()]
        if sealed.old is not None and webhook.old_secret_until is not None and now < webhook.old_secret_until:
            context = _context(webhook.team, webhook.id, sealed.version - 1)
            found.append(self._envelope.open(sealed.old, context).reveal())
        return found


def _context(team: TeamId, webhook: str, version: int) -> SealContext:
    return SealContext(kind="webhook_secret", team=team, owner="", name="secret", id=webhook, version=version)
