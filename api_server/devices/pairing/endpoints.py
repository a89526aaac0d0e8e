"""`/api/pairing-tokens`, `/api/pairing/exchange` and the device flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.errors import DeviceDisabledError, DeviceKeyUnknownError, DeviceNameTakenError
from api_server.devices.pairing.authorizations import INTERVAL, DeviceAuthorizations
from api_server.devices.pairing.errors import (
    AccessDeniedError,
    AuthorizationPendingError,
    DeviceCodeInvalidError,
    DeviceNameNeededError,
    ExpiredCodeError,
    PairingTokenExpiredError,
    PairingTokenInvalidError,
    PairingTokenNotFoundError,
    PairingTokenUsedError,
    SlowDownError,
    TooManyCodesError,
    UserCodeNotFoundError,
)
from api_server.devices.pairing.exchange import PairingExchange
from api_server.devices.pairing.records import Paired, PairingToken, Waiting
from api_server.devices.pairing.tokens import PairingTokenService
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from common.clock import Clock
from common.crypto.errors import InvalidProofError, StaleProofError
from common.secret import Secret

__all__ = ["PairingEndpoints"]

_Name = Annotated[str, Meta(max_length=100)]
_Key = Annotated[str, Meta(max_length=64)]
_Proof = Annotated[str, Meta(max_length=2048)]

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
"""RFC 8628 section 3.4."""

_MINUTES = 15 * 60.0


class PairingTokenPath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a pairing token."""

    id: Annotated[str, Meta(description="Id of the pairing token: `ppt_...`.")]


class NewPairingToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pairing token to be made."""

    team: _Name | None = None
    """May be left out by who belongs to exactly one."""
    name: _Name | None = None
    """What the device will be called; with several uses, what the names begin with."""
    uses: Annotated[int, Meta(ge=1, le=100_000)] = 1
    """How many devices it is good for."""
    expires_in: Annotated[float, Meta(ge=10, le=30 * 86400)] = _MINUTES
    """Seconds; 15 minutes when left out, 30 days at most."""


class MadePairingToken(PairingToken, frozen=True, kw_only=True):
    """A pairing token with what is shown only now."""

    token: str
    """`hpp_...`; it is not kept, and cannot be shown again."""


class PairingTokenPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of pairing tokens."""

    items: list[PairingToken]
    next: str | None


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device shows to be paired."""

    token: Annotated[str, Meta(max_length=256)]
    """`hpp_...`"""
    name: _Name | None = None
    """What it wants to be called; may be left out when the token says it."""
    public_key: _Key | None = None
    """Its Ed25519 key, 32 bytes in base64url. Without one it gets a session token that it cannot renew."""
    proof: _Proof | None = None
    """A JWS signed with that key, for `homeport-pair` and the SHA-256 of the token; see the reference of the wire."""


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that wants to come in."""

    name: _Name
    """What it wants to be called."""
    public_key: _Key
    """Its Ed25519 key, 32 bytes in base64url."""
    proof: _Proof
    """A JWS signed with that key, for `homeport-authorize` and the name."""
    agent: Annotated[str, Meta(max_length=200)] = ""
    """What it is, for the person who decides."""


class DeviceCodes(msgspec.Struct, frozen=True, kw_only=True):
    """What a device shows, and asks with (RFC 8628 section 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    """Seconds."""
    interval: int
    """Seconds between two questions."""


class DeviceQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a device asks whether somebody has decided (RFC 8628 section 3.4)."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:device_code"]
    device_code: Annotated[str, Meta(max_length=128)]
    proof: _Proof
    """A JWS signed with the device's key, for `homeport-poll` and the SHA-256 of the device code."""


class CodeQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which device waits."""

    user_code: Annotated[str, Meta(max_length=64, description="The code that the device shows.")]


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person decides about a device."""

    user_code: Annotated[str, Meta(max_length=64)]
    decision: Literal["approve", "deny"]
    team: _Name | None = None
    """That the device comes into; may be left out by who belongs to exactly one."""
    name: _Name | None = None
    """What it shall be called, instead of what it asks for."""


class PairingEndpoints:
    """Serves pairing.

    Args:
        tokens: pairing tokens.
        exchange: their exchange.
        authorizations: the device flow.
        clock: wall time.
        public_url: tells the origin of this API as people see it; known once it listens.
    """

    def __init__(
        self,
        tokens: PairingTokenService,
        exchange: PairingExchange,
        authorizations: DeviceAuthorizations,
        clock: Clock,
        *,
        public_url: Callable[[], str],
    ) -> None:
        self._tokens = tokens
        self._exchange = exchange
        self._authorizations = authorizations
        self._clock = clock
        self._public_url = public_url

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        one = "/api/pairing-tokens/{id}"
        missing = (PairingTokenNotFoundError, away)
        proving = (InvalidProofError, StaleProofError)
        deciding = (ForbiddenError, UserCodeNotFoundError, TooManyCodesError, away)
        return [
            Route(
                method="GET",
                path="/api/pairing-tokens",
                handler=self.list_pairing_tokens,
                action=Action.PAIRING_TOKENS_READ,
                errors=(away,),
            ),
            Route(
                method="POST",
                path="/api/pairing-tokens",
                handler=self.create_pairing_token,
                action=Action.PAIRING_TOKENS_CREATE,
                every_team=True,
                status=201,
                errors=(away,),
            ),
            Route(
                method="GET",
                path=one,
                handler=self.show_pairing_token,
                action=Action.PAIRING_TOKENS_READ,
                errors=missing,
            ),
            Route(
                method="DELETE",
                path=one,
                handler=self.revoke_pairing_token,
                action=Action.PAIRING_TOKENS_CHANGE_OWN,
                status=204,
                errors=(ForbiddenError, *missing),
            ),
            Route(
                method="POST",
                path="/api/pairing/exchange",
                handler=self.exchange_pairing_token,
                status=201,
                errors=(
                    PairingTokenInvalidError,
                    *proving,
                    DeviceKeyUnknownError,
                    DeviceDisabledError,
                    PairingTokenUsedError,
                    DeviceNameTakenError,
                    DeviceNameNeededError,
                    PairingTokenExpiredError,
                    TooManyCodesError,
                    away,
                ),
            ),
            Route(
                method="POST",
                path="/api/device-authorization",
                handler=self.request_device_authorization,
                errors=(*proving, TooManyCodesError, away),
            ),
            Route(
                method="POST",
                path="/api/device-token",
                handler=self.ask_for_device_token,
                errors=(
                    AuthorizationPendingError,
                    SlowDownError,
                    AccessDeniedError,
                    ExpiredCodeError,
                    DeviceCodeInvalidError,
                    *proving,
                    DeviceKeyUnknownError,
                    DeviceDisabledError,
                    DeviceNameTakenError,
                    away,
                ),
            ),
            Route(
                method="GET",
                path="/api/device-approvals",
                handler=self.show_device_request,
                action=Action.DEVICES_CREATE,
                every_team=True,
                errors=deciding,
            ),
            Route(
                method="POST",
                path="/api/device-approvals",
                handler=self.decide_device_request,
                action=Action.DEVICES_CREATE,
                every_team=True,
                status=204,
                errors=deciding,
            ),
        ]

    async def list_pairing_tokens(self, caller: Caller, query: ListQuery) -> PairingTokenPage:
        """List the pairing tokens of a team, the spent ones included.

        `reuse_count` tells of one that was shown again after it was used up.
        """
        found = await self._tokens.those_of(caller.team, limit=query.limit + 1, after=query.cursor)
        items, cursor = cut_page(found, query.limit, lambda each: each.id)
        return PairingTokenPage(items=items, next=cursor)

    async def create_pairing_token(self, caller: Caller, body: NewPairingToken) -> MadePairingToken:
        """Make a pairing token.

        Give it to the device: `homeport agent pair --api URL --token hpp_...`. It is good for one device and for 15
        minutes, unless you say otherwise, and cannot be shown again.
        """
        team = chosen_team(caller, Action.PAIRING_TOKENS_CREATE, body.team)
        made, token = await self._tokens.create(
            caller, team, name=body.name, uses=body.uses, expires_in=body.expires_in
        )
        return MadePairingToken(**msgspec.structs.asdict(made), token=token.reveal())

    async def show_pairing_token(
        self,
        caller: Caller,
        path: PairingTokenPath,
        query: TeamQuery,  # noqa: ARG002
    ) -> PairingToken:
        """Show a pairing token, without the token itself."""
        return await self._tokens.show(caller.team, path.id)

    async def revoke_pairing_token(
        self,
        caller: Caller,
        path: PairingTokenPath,
        query: TeamQuery,  # noqa: ARG002
    ) -> None:
        """Withdraw a pairing token. Devices that have come with it stay."""
        await self._tokens.revoke(caller, path.id)

    async def exchange_pairing_token(self, caller: Caller, body: Exchange) -> Paired:
        """Exchange a pairing token for a device and its first session token.

        Called by the device. With the same token and the same key it gives the same device again, so that a lost
        answer costs nothing. Nothing that is refused spends the token.
        """
        return await self._exchange.exchange(caller, Secret(body.token), body.name, body.public_key, body.proof)

    async def request_device_authorization(self, caller: Caller, body: DeviceRequest) -> DeviceCodes:
        """Begin the device flow (RFC 8628).

        Called by the device, which shows the user code and where to enter it.
        """
        device_code, user_code, expires_at = await self._authorizations.begin(
            caller, name=body.name, public_key=body.public_key, proof=body.proof, agent=body.agent
        )
        where = f"{self._public_url().rstrip('/')}/device"
        return DeviceCodes(
            device_code=device_code.reveal(),
            user_code=user_code,
            verification_uri=where,
            verification_uri_complete=f"{where}?user_code={user_code}",
            expires_in=int(expires_at - self._clock.wall()),
            interval=INTERVAL,
        )

    async def ask_for_device_token(self, caller: Caller, body: DeviceQuestion) -> Paired:
        """Ask whether somebody has approved the device (RFC 8628 section 3.4).

        Called by the device, every `interval` seconds, until it gets its session token or a final refusal. A lost
        answer can be asked for again.
        """
        return await self._authorizations.poll(caller, Secret(body.device_code), body.proof)

    async def show_device_request(self, caller: Caller, query: CodeQuery) -> Waiting:
        """Show which device waits under a user code.

        For the person who will decide: compare the name and the key with what the device shows.
        """
        return await self._authorizations.waiting(caller, query.user_code)

    async def decide_device_request(self, caller: Caller, body: Verdict) -> None:
        """Approve a device into a team, or deny it.

        Only a person can, and only who may create devices in that team.
        """
        team = chosen_team(caller, Action.DEVICES_CREATE, body.team)
        await self._authorizations.decide(
            caller, body.user_code, team, approve=body.decision == "approve", name=body.name
        )
