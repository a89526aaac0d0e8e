"""`/api/devices/{id}/session-tokens`: issue and revoke what a device dials in with.

A session token is signed here and checked by the relay with the public key alone; it is shown once and kept nowhere.
Its id stays with whoever asked for it, and is what revokes it.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated

import msgspec
from msgspec import Meta

from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.errors import DeviceNotFoundError
from api_server.devices.interfaces import Revoker
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller, Route, TeamQuery
from common.clock import Clock
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import DeviceId, ServiceName, is_name
from common.logging import Logger, get_logger
from common.sessions.errors import RelayUnavailableError

__all__ = ["DeviceEndpoints", "DevicePath", "IssueRequest", "IssuedToken", "TokenPath"]

_MIN_LIFETIME = 60
"""Seconds; a token that expires before the device has dialled helps nobody."""

_CREDENTIAL_ID = re.compile(r"crd_[0-9a-f]{32}", re.ASCII)


class DevicePath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a device."""

    id: Annotated[str, Meta(description="Id of the device: lower-case letters, digits, single hyphens; at most 40.")]


class TokenPath(DevicePath, frozen=True, kw_only=True):
    """Names a session token."""

    token_id: Annotated[str, Meta(description="Id of the session token, as it was issued: `crd_...`.")]


class IssueRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the session token shall be."""

    expires_in: Annotated[
        Annotated[int, Meta(ge=_MIN_LIFETIME, le=2**31)] | None,
        Meta(description="Seconds until it expires; by default and at most what the settings say."),
    ] = None
    service: Annotated[
        str | None,
        Meta(description="The one service of a device without our agent; `web` when left out."),
    ] = None


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A session token. It is not shown again."""

    id: CredentialId
    """By which it is revoked."""
    session_token: str
    """What the device dials in with."""
    expires_at: int
    """Seconds since the Unix epoch."""
    tunnel_url: str
    """Where to dial with it, as `Authorization: Bearer <session_token>`."""


class DeviceEndpoints:
    """Serves `/api/devices`.

    Args:
        signer: signs session tokens.
        revoker: the relay.
        clock: for the times in a token.
        tunnel_url: that devices dial.
        lifetime: seconds, of a token whose request names none.
        max_lifetime: seconds, of any token.
        log: gets a line for each token issued or revoked.
    """

    def __init__(
        self,
        *,
        signer: SessionTokenSigner,
        revoker: Revoker,
        clock: Clock,
        tunnel_url: str,
        lifetime: float,
        max_lifetime: float,
        log: Logger | None = None,
    ) -> None:
        self._signer = signer
        self._revoker = revoker
        self._clock = clock
        self._tunnel_url = tunnel_url
        self._lifetime = lifetime
        self._max_lifetime = max_lifetime
        self._log = log if log is not None else get_logger(__name__)

    def routes(self) -> list[Route]:
        """The endpoints."""
        return [
            Route(
                method="POST",
                path="/api/devices/{id}/session-tokens",
                handler=self.issue_session_token,
                action=Action.DEVICES_CHANGE,
                status=201,
                errors=(DeviceNotFoundError,),
            ),
            Route(
                method="DELETE",
                path="/api/devices/{id}/session-tokens/{token_id}",
                handler=self.revoke_session_token,
                action=Action.DEVICES_CHANGE,
                status=204,
                errors=(DeviceNotFoundError, RelayUnavailableError, DatabaseUnavailableError),
            ),
        ]

    async def issue_session_token(
        self,
        caller: Caller,
        path: DevicePath,
        query: TeamQuery,  # noqa: ARG002  # declares ?team=
        body: IssueRequest,
    ) -> IssuedToken:
        """Issue a session token for a device.

        With it the device, or any client that speaks hashicorp/yamux over WebSocket, dials the relay. A device needs
        no registration yet: its id is whatever name the token is issued for.
        """
        device = _device(path)
        if body.service is not None and not is_name(body.service):
            raise ValidationFailedError("body: service must be lower-case letters, digits, single hyphens; at most 40")
        lifetime = self._lifetime if body.expires_in is None else body.expires_in
        if lifetime > self._max_lifetime:
            raise ValidationFailedError(f"body: expires_in may be {self._max_lifetime:.0f} seconds at most")
        now = int(self._clock.wall())
        credential = CredentialId("crd_" + secrets.token_hex(16))
        claims = SessionClaims(
            device=device,
            device_name=device,
            team=caller.team,
            credential=credential,
            issued_at=now,
            expires_at=now + int(lifetime),
            service=None if body.service is None else ServiceName(body.service),
        )
        self._log.info(
            "session token issued",
            device=device,
            team=caller.team,
            credential=credential,
            expires_at=now + int(lifetime),
            identity=f"{caller.identity.kind}:{caller.identity.id}",
            request_id=caller.request_id,
        )
        return IssuedToken(
            id=credential,
            session_token=self._signer.sign(claims).reveal(),
            expires_at=now + int(lifetime),
            tunnel_url=self._tunnel_url,
        )

    async def revoke_session_token(self, caller: Caller, path: TokenPath, query: TeamQuery) -> None:  # noqa: ARG002
        """Revoke a session token.

        The relay closes the session that was opened with it, and admits none again, before the call returns. Revoking
        a token twice, or one that was never issued, is no error: what counts is that it does not work.
        """
        _device(path)
        if _CREDENTIAL_ID.fullmatch(path.token_id) is None:
            raise ValidationFailedError("path: token_id must be the id that the token was issued with")
        # When it expires by itself is not known here; it cannot be later than this.
        expires_at = self._clock.wall() + self._max_lifetime
        await self._revoker.revoke_credential(caller.team, CredentialId(path.token_id), expires_at=expires_at)
        self._log.info(
            "session token revoked",
            device=path.id,
            team=caller.team,
            credential=path.token_id,
            identity=f"{caller.identity.kind}:{caller.identity.id}",
            request_id=caller.request_id,
        )


def _device(path: DevicePath) -> DeviceId:
    if not is_name(path.id):
        raise DeviceNotFoundError("a device's id is lower-case letters, digits, single hyphens; at most 40 characters")
    return DeviceId(path.id)
