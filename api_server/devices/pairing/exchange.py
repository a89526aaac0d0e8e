"""The exchange of a pairing token for a device.

    UPDATE pairing_tokens SET used = used + 1 WHERE hash = ? AND used < uses AND expires_at > now AND not revoked

is the one statement that decides who gets in; it is part of the transaction that makes the device and its session
token, so that all of it is there or none. A device that did not get the answer asks again with the same token and the
same key, and gets the same device: the token is not spent twice. Whoever shows a spent token with another key is
refused, and the token's owner can see it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import DONE, REFUSED, Actor, AuditEntry
from api_server.db.database import Database, written
from api_server.db.errors import DatabaseConflictError
from api_server.devices.errors import DeviceKeyUnknownError, DeviceNameTakenError
from api_server.devices.issuing import TokenIssuer
from api_server.devices.pairing.errors import (
    DeviceNameNeededError,
    PairingTokenExpiredError,
    PairingTokenInvalidError,
    PairingTokenUsedError,
    TooManyCodesError,
)
from api_server.devices.pairing.records import Paired, PairedDevice
from api_server.devices.proofs import take_once
from api_server.devices.records import CredentialKind, Device, Issued, new_device
from api_server.devices.service import check_name
from api_server.devices.store import DeviceStore
from api_server.devices.tables import pairing_tokens, pairing_uses
from api_server.http.errors import ValidationFailedError
from api_server.http.routes import Caller
from common.clock import Clock
from common.crypto.api_tokens import PAIRING_TOKEN_PREFIX, checksum_holds, stored_hash
from common.crypto.device_keys import Purpose, check_proof, thumbprint
from common.crypto.errors import InvalidProofError
from common.guesses import GuessLimiter
from common.ids import DeviceId, TeamId
from common.secret import Secret

__all__ = ["Enroller", "PairingExchange"]

_LONGEST_STEM = 35
"""Characters of a name that is made unique by a hyphen and four more."""


class Enroller:
    """Makes the device that a pairing ends in.

    Args:
        issuer: of its first session token.
        clock: wall time.
    """

    def __init__(self, issuer: TokenIssuer, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._store = DeviceStore()

    async def enroll(
        self,
        tx: AsyncConnection,
        team: TeamId,
        name: str,
        created_by: str,
        public_key: str | None,
        *,
        rename: bool,
    ) -> tuple[Device, Issued]:
        """Register a device and issue its first session token, as part of a transaction.

        Args:
            tx: the transaction.
            team: that it belongs to.
            name: that it asks for.
            created_by: who let it in.
            public_key: its key; None for a client that has none, and cannot renew.
            rename: give it a name that is like the one it asks for when that is taken.

        Raises:
            DeviceNameTakenError: the name is taken, and it shall have no other.
        """
        taken = await self._store.find(tx, team, name) is not None
        if taken or await self._store.bearer_of(tx, team, name, self._clock.wall()) is not None:
            if not rename:
                raise DeviceNameTakenError(f"the team has a device {name} already; choose another name")
            name = f"{name[:_LONGEST_STEM].rstrip('-')}-{secrets.token_hex(2)}"
        device = new_device(team, name, created_by, self._clock.wall(), paired=public_key is not None)
        await self._store.add(tx, device, public_key)
        return device, await self.issue(tx, device)

    async def issue(self, tx: AsyncConnection, device: Device) -> Issued:
        """A session token for a device that has proved itself, as part of a transaction that holds it.

        Raises:
            DeviceDisabledError: it is disabled.
        """
        kind = CredentialKind.BOUND if device.paired else CredentialKind.UNBOUND
        return await self._issuer.issue(tx, device, kind, f"device:{device.id}")

    async def again(self, tx: AsyncConnection, device: str, public_key: str) -> tuple[Device, Issued]:
        """A session token for a device that paired before and did not hear of it.

        Raises:
            DeviceDisabledError: it is disabled.
            DeviceKeyUnknownError: it was deleted or revoked since.
        """
        found = await self._store.get(tx, DeviceId(device), lock=True)
        if found is None or await self._store.public_key(tx, found.id) != public_key:
            raise DeviceKeyUnknownError("the device was deleted or revoked since; pair it with a new token")
        return found, await self.issue(tx, found)


class PairingExchange:
    """Exchanges pairing tokens.

    Args:
        database: where they are kept.
        audit: gets a line for each exchange, and for each spent token that is shown again.
        enroller: makes the device.
        guesses: counts tokens that are none of ours, or spent.
        clock: of both kinds.
    """

    def __init__(
        self, database: Database, audit: AuditLog, enroller: Enroller, guesses: GuessLimiter, clock: Clock
    ) -> None:
        self._database = database
        self._audit = audit
        self._enroller = enroller
        self._guesses = guesses
        self._clock = clock

    async def exchange(
        self, caller: Caller, token: Secret, name: str | None, public_key: str | None, proof: str | None
    ) -> Paired:
        """Make a device of a pairing token; the same one again for the same token and key.

        Args:
            caller: for address and request id.
            token: `hpp_...`.
            name: that the device asks for; None takes the one of the token.
            public_key: of the device.
            proof: that it holds the key, for `Purpose.PAIR` and the hash of the token.

        Raises:
            DeviceNameNeededError, DeviceNameTakenError, InvalidProofError, PairingTokenExpiredError,
            PairingTokenInvalidError, PairingTokenUsedError, TooManyCodesError, ValidationFailedError: see there. None
            of them spends the token.
        """
        now = self._clock.wall()
        if not checksum_holds(token.reveal(), PAIRING_TOKEN_PREFIX):
            raise PairingTokenInvalidError("not a pairing token; was it cut off? It is hpp_ and 49 characters")
        if name is not None:
            check_name(name)
        digest = stored_hash(token)
        said = None
        if public_key is not None:
            if proof is None:
                raise ValidationFailedError("body: a public_key needs a proof that it is held")
            said = check_proof(public_key, proof, Purpose.PAIR, digest, now)

        async def work(tx: AsyncConnection) -> Paired:
            # Under a lock: a device that asks again while its first request is still under way shall find what came of
            # that one, and not a token that somebody has used up.
            query = select(pairing_tokens).where(pairing_tokens.c.token_hash == digest).with_for_update()
            row = (await tx.execute(query)).first()
            if row is None:
                raise PairingTokenInvalidError("no pairing token of this installation")
            if said is not None:
                await take_once(tx, said, now)
            if public_key is not None and (before := await _use(tx, row.id, public_key)) is not None:
                device, issued = await self._enroller.again(tx, before, public_key)
                await self._record(tx, caller, row, device, "device.paired_again")
                return _paired(device, issued)
            await self._spend(tx, row, now)
            wanted = row.name if name is None else name
            if wanted is None:
                raise DeviceNameNeededError("say what the device is called: the pairing token does not")
            device, issued = await self._enroller.enroll(
                tx,
                row.team_id,
                check_name(wanted),
                f"{row.created_by_kind}:{row.created_by}",
                public_key,
                rename=row.uses > 1,
            )
            if public_key is not None:
                use = {"pairing_token_id": row.id, "key_thumbprint": thumbprint(public_key), "device_id": device.id}
                await tx.execute(insert(pairing_uses).values(**use, at=now))
            await self._record(tx, caller, row, device, "device.paired")
            return _paired(device, issued)

        try:
            # The second time it is seen that somebody has made a device of that name, or that this very device asks
            # twice at once. What is left is a proof that was used.
            return await written(self._database, work)
        except DatabaseConflictError as exc:
            raise InvalidProofError("the proof has been used; make a new one for each request") from exc
        except PairingTokenInvalidError:
            self._count_guess(caller.address)
            raise
        except PairingTokenUsedError:
            self._count_guess(caller.address)
            await self._note_reuse(caller, digest, now)
            raise

    async def _spend(self, tx: AsyncConnection, row: Row[Any], now: float) -> None:
        table = pairing_tokens.c
        spent = await tx.execute(
            update(pairing_tokens)
            .where(table.id == row.id, table.used < table.uses, table.expires_at > now, table.revoked_at.is_(None))
            .values(used=table.used + 1, last_used_at=now)
        )
        if spent.rowcount == 1:
            return
        if row.revoked_at is not None:
            raise PairingTokenExpiredError("the pairing token was withdrawn; ask for another one")
        if row.used >= row.uses or row.expires_at > now:  # the last use may have been taken since it was read
            raise PairingTokenUsedError("the pairing token is used up; ask for another one")
        raise PairingTokenExpiredError("the pairing token is too old; ask for another one")

    async def _note_reuse(self, caller: Caller, digest: str, now: float) -> None:
        """Let the owner of a token know that it was shown again after it was used up."""

        async def work(tx: AsyncConnection) -> None:
            row = (await tx.execute(select(pairing_tokens).where(pairing_tokens.c.token_hash == digest))).first()
            if row is None:
                return
            count = pairing_tokens.c.reuse_count
            await tx.execute(
                update(pairing_tokens)
                .where(pairing_tokens.c.id == row.id)
                .values(reuse_count=count + 1, last_reuse_at=now)
            )
            await self._record(tx, caller, row, None, "pairing_token.reused")

        await self._database.write(work)

    async def _record(
        self, tx: AsyncConnection, caller: Caller, row: Row[Any], device: Device | None, action: str
    ) -> None:
        after: Mapping[str, Any] | None = None
        if device is not None:
            after = {"device": device.id, "name": device.name, "pairing_token": row.id}
        await self._audit.record(
            tx,
            AuditEntry(
                actor=_UNKNOWN if device is None else Actor("device", device.id, device.name),
                team=row.team_id,
                action=action,
                target_kind="pairing_token" if device is None else "device",
                target_id=row.id if device is None else device.id,
                after=after,
                request_id=caller.request_id,
                address=caller.address,
                outcome=REFUSED if device is None else DONE,
            ),
        )

    def _count_guess(self, address: str) -> None:
        wait = self._guesses.wrong(address, self._clock.monotonic())
        if wait is not None:
            raise TooManyCodesError("too many wrong pairing tokens from this address", retry_after=math.ceil(wait))


_UNKNOWN = Actor("device", "unknown", "whoever showed the token")


async def _use(tx: AsyncConnection, token: str, public_key: str) -> str | None:
    """The device that the key has made of the token before."""
    query = select(pairing_uses.c.device_id).where(
        pairing_uses.c.pairing_token_id == token, pairing_uses.c.key_thumbprint == thumbprint(public_key)
    )
    return (await tx.execute(query)).scalar()


def _paired(device: Device, issued: Issued) -> Paired:
    return Paired(
        device=PairedDevice(id=device.id, name=device.name, team=device.team),
        session_token=issued.session_token,
        expires_at=issued.expires_at,
        tunnel_url=issued.tunnel_url,
    )
