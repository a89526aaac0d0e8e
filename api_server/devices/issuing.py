"""Issues session tokens: signs them, and keeps that they were issued.

The relay checks a token with the public key alone, so what is kept here is not for admitting but for ending: every
token that is live can be named, and therefore revoked.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.devices.errors import DeviceDisabledError
from api_server.devices.records import Credential, CredentialKind, Device, Issued
from api_server.devices.store import DeviceStore
from common.clock import Clock
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import ServiceName, new_id

__all__ = ["TokenIssuer"]


class TokenIssuer:
    """Issues session tokens.

    Args:
        signer: signs them.
        clock: for the times in them.
        tunnel_url: that devices dial.
        lifetime: seconds, of a token for which none is asked, and of every one that a device renews.
        max_lifetime: seconds, of any.
    """

    def __init__(
        self, signer: SessionTokenSigner, clock: Clock, *, tunnel_url: str, lifetime: float, max_lifetime: float
    ) -> None:
        self._signer = signer
        self._clock = clock
        self._store = DeviceStore()
        self.tunnel_url = tunnel_url
        self.lifetime = lifetime
        self.max_lifetime = max_lifetime

    async def issue(
        self,
        tx: AsyncConnection,
        device: Device,
        kind: CredentialKind,
        issued_by: str,
        *,
        lifetime: float | None = None,
        service: str | None = None,
    ) -> Issued:
        """Issue a session token, as part of a transaction that holds the device's row, or has just made it.

        Args:
            tx: the transaction.
            device: for which.
            kind: how it came to be.
            issued_by: `user:`, `token:` or `device:`, and the id.
            lifetime: seconds; None for the usual.
            service: the one service of a device without our agent.

        Raises:
            DeviceDisabledError: the device is disabled.
        """
        if device.disabled_at is not None:
            raise DeviceDisabledError(f"the device {device.name} is disabled; enable it first")
        now = int(self._clock.wall())
        expires_at = now + int(self.lifetime if lifetime is None else lifetime)
        credential = CredentialId(new_id("crd"))
        claims = SessionClaims(
            device=device.id,
            device_name=device.name,
            team=device.team,
            credential=credential,
            issued_at=now,
            expires_at=expires_at,
            service=None if service is None else ServiceName(service),
        )
        kept = Credential(
            id=credential,
            device=device.id,
            kind=kind,
            service=service,
            issued_at=now,
            expires_at=expires_at,
            issued_by=issued_by,
            revoked_at=None,
        )
        await self._store.add_credential(tx, kept, device.team, device.name)
        token = self._signer.sign(claims).reveal()
        return Issued(id=credential, session_token=token, expires_at=expires_at, tunnel_url=self.tunnel_url)
