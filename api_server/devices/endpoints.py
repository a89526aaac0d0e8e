"""`/api/devices`: devices, and the session tokens that they dial in with.

A session token is signed here and checked by the relay with the public key alone; it is shown once and kept nowhere.
Where a path names a device, its id will do, and its name.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.errors import DatabaseUnavailableError
from api_server.devices.errors import (
    CredentialNotFoundError,
    DeviceDisabledError,
    DeviceKeyUnknownError,
    DeviceNameTakenError,
    DeviceNotFoundError,
)
from api_server.devices.records import Credential, Device, Issued
from api_server.devices.service import DeviceService
from api_server.http.routes import Caller, ListQuery, Route, TeamQuery, chosen_team, cut_page
from common.crypto.errors import InvalidProofError, StaleProofError
from common.crypto.session_tokens import CredentialId
from common.sessions.errors import RelayUnavailableError

__all__ = ["DeviceEndpoints", "DeviceListQuery", "DevicePath", "IssueRequest", "TokenPath"]

_MIN_LIFETIME = 60
"""Seconds; a token that expires before the device has dialled helps nobody."""

_Name = Annotated[str, Meta(max_length=100)]
_Labels = Annotated[list[_Name], Meta(max_length=20)]


class DevicePath(msgspec.Struct, frozen=True, kw_only=True):
    """Names a device."""

    id: Annotated[str, Meta(description="Id or name of the device.")]


class TokenPath(DevicePath, frozen=True, kw_only=True):
    """Names a session token."""

    token_id: Annotated[str, Meta(description="Id of the session token, as it was issued: `crd_...`.")]


class NewDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device to be registered."""

    team: _Name | None = None
    """May be left out by who belongs to exactly one."""
    name: _Name
    """Lower-case letters, digits, single hyphens; at most 40; another than any other device of the team has."""
    services: Annotated[list[_Name], Meta(max_length=100)] = []
    """What it will serve, for people."""
    labels: _Labels = []
    """By which a route can lead to several devices."""


class DeviceListQuery(ListQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of the list of devices."""

    label: Annotated[str | None, Meta(description="Only devices that have this label.")] = None


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a device; what is left out stays."""

    name: _Name | UnsetType = UNSET
    labels: _Labels | UnsetType = UNSET
    """All that it shall have."""
    disabled: bool | UnsetType = UNSET
    """A disabled device is cut off, and gets no session token."""


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


class Renewal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shows that the device itself asks."""

    proof: Annotated[str, Meta(max_length=2048)]
    """A JWS signed with the device's key, for `homeport-renew` and the device's id; see the reference of the wire."""


class DevicePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of devices, in the order of their names."""

    items: list[Device]
    next: str | None


class CredentialList(msgspec.Struct, frozen=True, kw_only=True):
    """The session tokens of a device that hold."""

    items: list[Credential]


class DeviceEndpoints:
    """Serves `/api/devices`.

    Args:
        devices: the rules.
    """

    def __init__(self, devices: DeviceService) -> None:
        self._devices = devices

    def routes(self) -> list[Route]:
        """The endpoints."""
        away = DatabaseUnavailableError
        missing = (DeviceNotFoundError, away)
        changing = (ForbiddenError, *missing, RelayUnavailableError)
        device, tokens = "/api/devices/{id}", "/api/devices/{id}/session-tokens"
        return [
            Route(
                method="GET",
                path="/api/devices",
                handler=self.list_devices,
                action=Action.DEVICES_READ,
                errors=(away,),
            ),
            Route(
                method="POST",
                path="/api/devices",
                handler=self.register_device,
                action=Action.DEVICES_CREATE,
                every_team=True,
                status=201,
                errors=(DeviceNameTakenError, away),
            ),
            Route(method="GET", path=device, handler=self.show_device, action=Action.DEVICES_READ, errors=missing),
            Route(
                method="PATCH",
                path=device,
                handler=self.change_device,
                action=Action.DEVICES_CHANGE_OWN,
                errors=(DeviceNameTakenError, *changing),
            ),
            Route(
                method="DELETE",
                path=device,
                handler=self.delete_device,
                action=Action.DEVICES_CHANGE_OWN,
                status=204,
                errors=changing,
            ),
            Route(
                method="POST",
                path=f"{device}/revoke",
                handler=self.revoke_device,
                action=Action.DEVICES_CHANGE_OWN,
                errors=changing,
            ),
            Route(
                method="POST",
                path=f"{device}/renew",
                handler=self.renew_session_token,
                status=201,
                errors=(DeviceKeyUnknownError, DeviceDisabledError, InvalidProofError, StaleProofError, away),
            ),
            Route(
                method="GET",
                path=tokens,
                handler=self.list_session_tokens,
                action=Action.DEVICES_READ,
                errors=missing,
            ),
            Route(
                method="POST",
                path=tokens,
                handler=self.issue_session_token,
                action=Action.DEVICES_CHANGE_OWN,
                status=201,
                errors=(DeviceDisabledError, ForbiddenError, *missing),
            ),
            Route(
                method="DELETE",
                path=f"{tokens}/{{token_id}}",
                handler=self.revoke_session_token,
                action=Action.DEVICES_CHANGE_OWN,
                status=204,
                errors=(CredentialNotFoundError, *changing),
            ),
        ]

    async def list_devices(self, caller: Caller, query: DeviceListQuery) -> DevicePage:
        """List the devices of a team."""
        found = await self._devices.those_of(caller.team, limit=query.limit + 1, after=query.cursor, label=query.label)
        items, cursor = cut_page(found, query.limit, lambda each: each.name)
        return DevicePage(items=items, next=cursor)

    async def register_device(self, caller: Caller, body: NewDevice) -> Device:
        """Register a device without pairing.

        For a client that cannot pair: issue its session tokens, and look after them. A device with our agent is better
        paired: it makes a key of its own and renews its session token by itself.
        """
        team = chosen_team(caller, Action.DEVICES_CREATE, body.team)
        return await self._devices.register(caller, team, body.name, body.services, body.labels)

    async def show_device(self, caller: Caller, path: DevicePath, query: TeamQuery) -> Device:  # noqa: ARG002
        """Show a device."""
        return await self._devices.show(caller.team, path.id)

    async def change_device(
        self,
        caller: Caller,
        path: DevicePath,
        query: TeamQuery,  # noqa: ARG002
        body: DeviceChange,
    ) -> Device:
        """Rename a device, give it other labels, disable it, or enable it again.

        Disabling closes its tunnel and revokes its session tokens within the call. Once enabled, it gets a new one with
        its key. A new name holds at once; a session that is open shows the old one until it ends.
        """
        return await self._devices.change(
            caller,
            path.id,
            name=None if body.name is UNSET else body.name,
            labels=None if body.labels is UNSET else body.labels,
            disabled=None if body.disabled is UNSET else body.disabled,
        )

    async def delete_device(self, caller: Caller, path: DevicePath, query: TeamQuery) -> None:  # noqa: ARG002
        """Delete a device.

        Its tunnel is closed within the call, and nothing that it was given lets it in again.
        """
        await self._devices.delete(caller, path.id)

    async def revoke_device(self, caller: Caller, path: DevicePath, query: TeamQuery) -> Device:  # noqa: ARG002
        """Revoke a device's key and all its session tokens.

        Its tunnel is closed within the call. It stays registered, and can be paired anew, or be issued session tokens.
        """
        return await self._devices.revoke(caller, path.id)

    async def renew_session_token(self, path: DevicePath, body: Renewal) -> Issued:
        """Get the next session token of a device, by its key.

        Called by the device itself, by its id. The proof is made for this one call. When the clock of the device is
        wrong the answer is `stale_proof`: take the time from its `Date`, and try again.
        """
        return await self._devices.renew(path.id, body.proof)

    async def list_session_tokens(
        self,
        caller: Caller,
        path: DevicePath,
        query: TeamQuery,  # noqa: ARG002
    ) -> CredentialList:
        """List the session tokens of a device that hold, without the tokens themselves."""
        return CredentialList(items=await self._devices.credentials(caller.team, path.id))

    async def issue_session_token(
        self,
        caller: Caller,
        path: DevicePath,
        query: TeamQuery,  # noqa: ARG002  # declares ?team=
        body: IssueRequest,
    ) -> Issued:
        """Issue a session token for a device.

        With it the device, or any client that speaks hashicorp/yamux over WebSocket, dials the relay. It is shown once,
        and nobody renews it. One that lives longer than a day is marked as such.
        """
        return await self._devices.issue(caller, path.id, body.expires_in, body.service)

    async def revoke_session_token(self, caller: Caller, path: TokenPath, query: TeamQuery) -> None:  # noqa: ARG002
        """Revoke a session token.

        The relay closes the session that was opened with it, and admits none again, before the call returns. Revoking
        a token twice is no error.
        """
        await self._devices.revoke_credential(caller, path.id, CredentialId(path.token_id))
