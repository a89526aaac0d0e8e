"""What may be done with devices and with what they dial in with.

    register     a device without pairing: its session tokens are asked for by somebody else
    change       rename, label, disable, enable
    revoke       its key and all its session tokens; it has to be paired anew
    delete       the same, and it is forgotten
    issue        a session token for a client that cannot renew
    renew        the device itself, with its key

Whatever ends a device's access marks all its live session tokens as revoked in the transaction that does it, and then
has the relay close what is open. A session token is issued under a lock on the device, so that none is issued beside
such a transaction and missed by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database, written
from api_server.db.errors import DatabaseConflictError
from api_server.devices.errors import (
    CredentialNotFoundError,
    DeviceKeyUnknownError,
    DeviceNameTakenError,
    DeviceNotFoundError,
)
from api_server.devices.interfaces import Revocation, RevocationKeeper
from api_server.devices.issuing import TokenIssuer
from api_server.devices.proofs import take_once
from api_server.devices.records import Credential, CredentialKind, Device, Issued, new_device
from api_server.devices.store import DeviceStore
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from common.clock import Clock
from common.crypto.device_keys import Purpose, check_proof
from common.crypto.errors import InvalidProofError
from common.crypto.session_tokens import CredentialId
from common.ids import DeviceId, TeamId, is_device_id, is_name

__all__ = ["DeviceService", "check_name"]

_NOT_FOUND = "the team has no device of that id or name"


def check_name(name: str) -> str:
    """`name`, if a device may be called so.

    Raises:
        ValidationFailedError: it may not.
    """
    if not is_name(name) or is_device_id(name):
        raise ValidationFailedError(
            "body: name must be lower-case letters, digits, single hyphens; at most 40; and not look like an id"
        )
    return name


class DeviceService:
    """The rules of devices.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        changes: tells every gateway of labels.
        issuer: of session tokens.
        revocations: ends what is live.
        clock: wall time.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        issuer: TokenIssuer,
        revocations: RevocationKeeper,
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._changes = changes
        self._issuer = issuer
        self._revocations = revocations
        self._clock = clock
        self._store = DeviceStore()

    async def those_of(self, team: TeamId, *, limit: int, after: str | None, label: str | None = None) -> list[Device]:
        """Devices of a team in the order of their names; those that have the label, if one is given."""
        return await self._database.read(
            lambda tx: self._store.those_of(tx, team, limit=limit, after=after, label=label)
        )

    async def show(self, team: TeamId, device: str) -> Device:
        """A device, by id or name.

        Raises:
            DeviceNotFoundError: the team has none.
        """
        return _found(await self._database.read(lambda tx: self._store.find(tx, team, device)))

    async def creator_of(self, team: TeamId, device: str) -> tuple[str, str] | None:
        """Kind and id of who created a device; None when the team has none of that id or name."""
        found = await self._database.read(lambda tx: self._store.find(tx, team, device))
        return None if found is None else found.creator

    async def register(
        self, caller: Caller, team: TeamId, name: str, services: Sequence[str], labels: Sequence[str] = ()
    ) -> Device:
        """Register a device without pairing.

        Raises:
            DeviceNameTakenError: the team has one of that name.
            ValidationFailedError: a name is none.
        """
        check_name(name)
        if not all(map(is_name, services)):
            raise ValidationFailedError("body: services must be lower-case letters, digits, single hyphens; at most 40")
        _check_labels(labels)
        creator = f"{caller.identity.kind}:{caller.identity.id}"
        made = new_device(team, name, creator, self._clock.wall(), services=services, labels=labels)

        async def work(tx: AsyncConnection) -> list[Change]:
            await self._check_free(tx, made.team, made.name, made.id)
            await self._store.add(tx, made, None)
            changes = await self._relabelled(tx, made.team, made.labels)
            after = {"name": name, "services": list(services), "labels": made.labels}
            await self._record(tx, caller, made, "device.registered", after=after)
            return changes

        await self._changes.announce(await written(self._database, work))
        return made

    async def change(
        self,
        caller: Caller,
        device: str,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        disabled: bool | None = None,
    ) -> Device:
        """Rename a device, give it other labels, disable or enable it. To say what is so already is no error.

        Raises:
            DeviceNameTakenError, DeviceNotFoundError, ForbiddenError, RelayUnavailableError, ValidationFailedError: see
                there.
        """
        if name is not None:
            check_name(name)
        if labels is not None:
            _check_labels(labels)
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Device, list[Revocation], list[Change]]:
            found = await self._changeable(tx, caller, device)
            revoked: list[Revocation] = []
            if name is not None and name != found.name:
                await self._check_free(tx, found.team, name, found.id)
                await self._store.change(tx, found.id, {"name": name})
            if disabled is not None and disabled != (found.disabled_at is not None):
                await self._store.change(tx, found.id, {"disabled_at": now if disabled else None})
                if disabled:
                    revoked = await self._end_credentials(tx, found, now)
            changes: list[Change] = []
            if labels is not None and set(labels) != set(found.labels):
                await self._store.set_labels(tx, found.team, found.id, sorted(set(labels)))
                changes = await self._relabelled(tx, found.team, sorted(set(labels) ^ set(found.labels)))
            changed = _found(await self._store.find(tx, found.team, found.id))
            if changed.name != found.name:
                await self._record(
                    tx, caller, found, "device.renamed", before={"name": found.name}, after={"name": changed.name}
                )
            if changed.disabled_at != found.disabled_at:
                action = "device.enabled" if changed.disabled_at is None else "device.disabled"
                await self._record(tx, caller, found, action)
            if changed.labels != found.labels:
                await self._record(
                    tx,
                    caller,
                    found,
                    "device.labelled",
                    before={"labels": found.labels},
                    after={"labels": changed.labels},
                )
            return changed, revoked, changes

        changed, revoked, changes = await written(self._database, work)
        await self._changes.announce(changes)
        await self._revocations.enforce(revoked)
        return changed

    async def revoke(self, caller: Caller, device: str) -> Device:
        """Revoke a device's key and all its session tokens.

        Raises:
            DeviceNotFoundError, ForbiddenError: see there.
            RelayUnavailableError: it is revoked, and what is open will be closed as soon as the relay answers.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Device, list[Revocation]]:
            found = await self._changeable(tx, caller, device)
            await self._store.change(tx, found.id, {"public_key": None})
            revoked = await self._end_credentials(tx, found, now)
            after = {"session_tokens": len(revoked)}
            await self._record(tx, caller, found, "device.revoked", before={"paired": found.paired}, after=after)
            return _found(await self._store.find(tx, found.team, found.id)), revoked

        changed, revoked = await self._database.write(work)
        await self._revocations.enforce(revoked)
        return changed

    async def delete(self, caller: Caller, device: str) -> None:
        """Delete a device; its key and all its session tokens hold no more.

        Raises:
            DeviceNotFoundError, ForbiddenError: see there.
            RelayUnavailableError: it is deleted, and what is open will be closed as soon as the relay answers.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> tuple[Revocation, list[Change]]:
            found = await self._changeable(tx, caller, device)
            await self._end_credentials(tx, found, now)
            # By its id as well, and first: whatever token of it there may be.
            every = Revocation(id=found.id, kind="device", team=found.team, expires_at=now + self._issuer.max_lifetime)
            await self._revocations.keep(tx, [every])
            await self._store.remove(tx, found.id)
            changes = await self._relabelled(tx, found.team, found.labels)
            before = {"name": found.name, "paired": found.paired, "created_by": found.created_by}
            await self._record(tx, caller, found, "device.deleted", before=before)
            return every, changes

        every, changes = await self._database.write(work)
        await self._changes.announce(changes)
        await self._revocations.enforce([every])

    async def issue(self, caller: Caller, device: str, lifetime: float | None, service: str | None) -> Issued:
        """Issue a session token for a client that cannot renew it.

        Args:
            caller: who asks.
            device: id or name.
            lifetime: seconds; None for the usual.
            service: the one service of a device without our agent.

        Raises:
            DeviceDisabledError, DeviceNotFoundError, ForbiddenError, ValidationFailedError: see there.
        """
        if service is not None and not is_name(service):
            raise ValidationFailedError("body: service must be lower-case letters, digits, single hyphens; at most 40")
        if lifetime is not None and lifetime > self._issuer.max_lifetime:
            raise ValidationFailedError(f"body: expires_in may be {self._issuer.max_lifetime:.0f} seconds at most")

        async def work(tx: AsyncConnection) -> Issued:
            found = await self._changeable(tx, caller, device)
            kind = CredentialKind.UNBOUND
            if lifetime is not None and lifetime > self._issuer.lifetime:
                kind = CredentialKind.LONG_LIVED
            by = f"{caller.identity.kind}:{caller.identity.id}"
            issued = await self._issuer.issue(tx, found, kind, by, lifetime=lifetime, service=service)
            after = {"credential": issued.id, "kind": kind, "expires_at": issued.expires_at, "service": service}
            await self._record(tx, caller, found, "session_token.issued", after=after)
            return issued

        return await self._database.write(work)

    async def credentials(self, team: TeamId, device: str) -> list[Credential]:
        """The session tokens of a device that hold, without the tokens.

        Raises:
            DeviceNotFoundError: the team has none of that id or name.
        """

        async def work(tx: AsyncConnection) -> list[Credential]:
            found = _found(await self._store.find(tx, team, device))
            return await self._store.live_credentials(tx, found.id, self._clock.wall())

        return await self._database.read(work)

    async def revoke_credential(self, caller: Caller, device: str, credential: CredentialId) -> None:
        """Revoke one session token. Twice is no error.

        Raises:
            CredentialNotFoundError: the device has none of that id.
            DeviceNotFoundError, ForbiddenError: see there.
            RelayUnavailableError: it is revoked, and what is open will be closed as soon as the relay answers.
        """
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> list[Revocation]:
            found = await self._changeable(tx, caller, device)
            known = await self._store.credential(tx, found.id, credential)
            if known is None:
                raise CredentialNotFoundError("the device has no session token of that id")
            revocation = _revocation(known, found.team)
            if known.revoked_at is None:
                await self._store.mark_revoked(tx, [known.id], now)
                await self._revocations.keep(tx, [revocation])
                await self._record(tx, caller, found, "session_token.revoked", after={"credential": credential})
            return [revocation]

        await self._revocations.enforce(await self._database.write(work))

    async def renew(self, device: str, proof: str) -> Issued:
        """Issue the next session token to a device that proves that it holds its key.

        Raises:
            DeviceDisabledError: it is disabled.
            DeviceKeyUnknownError: there is no such device, or it has no key.
            InvalidProofError: the proof does not hold, or has been used.
        """
        unknown = DeviceKeyUnknownError("no device has that id and a key; pair it anew")
        if not is_device_id(device):
            raise unknown
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> Issued:
            found = await self._store.get(tx, DeviceId(device), lock=True)
            public_key = await self._store.public_key(tx, DeviceId(device))
            if found is None or public_key is None:
                raise unknown
            said = check_proof(public_key, proof, Purpose.RENEW, device, now)
            await take_once(tx, said, now)
            return await self._issuer.issue(tx, found, CredentialKind.BOUND, f"device:{device}")

        try:
            return await self._database.write(work)
        except DatabaseConflictError as exc:
            raise InvalidProofError("the proof has been used; make a new one for each request") from exc

    async def _changeable(self, tx: AsyncConnection, caller: Caller, device: str) -> Device:
        """A device of the caller's team, held against other writers, once it is certain that the caller may change it.

        Raises:
            DeviceNotFoundError: the team has none.
            ForbiddenError: somebody else has created it, and the caller may change their own only.
        """
        found = _found(await self._store.find(tx, caller.team, device, lock=True))
        own = Action.DEVICES_CHANGE_OWN
        if not caller.identity.may_change(Action.DEVICES_CHANGE, own, found.team, found.creator):
            raise ForbiddenError(f"{caller.identity.name!r} may change own devices only")
        return found

    async def _check_free(self, tx: AsyncConnection, team: TeamId, name: str, device: DeviceId) -> None:
        """Whether a device may be called so.

        Raises:
            DeviceNameTakenError: another is; or was until it was renamed, and still shows the name to the relay.
        """
        if await self._store.find(tx, team, name) is not None:
            raise DeviceNameTakenError(f"the team has a device {name} already")
        bearer = await self._store.bearer_of(tx, team, name, self._clock.wall())
        if bearer not in (None, device):
            raise DeviceNameTakenError(
                f"{bearer} was called {name}, and has a session token that still says so; revoke it, or wait"
            )

    async def _end_credentials(self, tx: AsyncConnection, device: Device, now: float) -> list[Revocation]:
        """All that the device could dial in with holds no more."""
        live = await self._store.live_credentials(tx, device.id, now)
        revoked = [_revocation(each, device.team) for each in live]
        await self._store.mark_revoked(tx, [each.id for each in live], now)
        await self._revocations.keep(tx, revoked)
        return revoked

    async def _relabelled(self, tx: AsyncConnection, team: TeamId, labels: Sequence[str]) -> list[Change]:
        """Other devices than before have these labels."""
        return [
            await self._changes.record(tx, Change(topic=Topic.LABELS, team=team, subject=label)) for label in labels
        ]

    async def _record(
        self,
        tx: AsyncConnection,
        caller: Caller,
        device: Device,
        action: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        entry = entry_of(caller, device.team, action, ("device", device.id), before=before, after=after)
        await self._audit.record(tx, entry)


def _check_labels(labels: Sequence[str]) -> None:
    if not all(map(is_name, labels)):
        raise ValidationFailedError("body: labels must be lower-case letters, digits, single hyphens; at most 40")


def _found(device: Device | None) -> Device:
    if device is None:
        raise DeviceNotFoundError(_NOT_FOUND)
    return device


def _revocation(credential: Credential, team: TeamId) -> Revocation:
    return Revocation(id=credential.id, kind="credential", team=team, expires_at=credential.expires_at)
