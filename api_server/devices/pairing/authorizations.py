"""The device flow (RFC 8628): the device shows a code, and somebody of a team approves it.

    device   POST /api/device-authorization    ->  device code, user code, where to enter it
    person   GET  /api/device-approvals?user_code=   what asks, and from where
             POST /api/device-approvals        approve it into a team, or deny it: always an explicit act
    device   POST /api/device-token            ->  pending, slow down, denied, expired, or its first session token

The device holds a key from the start and proves it with every question, so a device code that somebody else has seen
is of no use to them. A user code has eight consonants, which make no words (section 6.1): 34 bits, good for minutes,
with few wrong tries. Approving makes nothing yet; the device is made when it comes for its token, in one transaction
that takes the approval, and a device that did not hear the answer asks again.
"""

from __future__ import annotations

import math
import secrets
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import Actor, AuditEntry, entry_of
from api_server.auth.errors import ForbiddenError
from api_server.db.database import Database
from api_server.db.errors import DatabaseConflictError
from api_server.devices.pairing.errors import (
    AccessDeniedError,
    AuthorizationPendingError,
    DeviceCodeInvalidError,
    ExpiredCodeError,
    SlowDownError,
    TooManyCodesError,
    UserCodeNotFoundError,
)
from api_server.devices.pairing.exchange import Enroller
from api_server.devices.pairing.records import Paired, PairedDevice, Waiting
from api_server.devices.proofs import take_once
from api_server.devices.service import check_name
from api_server.devices.tables import device_authorizations
from api_server.http.routes import Caller
from common.clock import Clock
from common.crypto.api_tokens import stored_hash
from common.crypto.device_keys import Purpose, check_proof, thumbprint
from common.crypto.errors import InvalidProofError
from common.guesses import GuessLimiter
from common.ids import TeamId, new_id
from common.secret import Secret

__all__ = ["ALPHABET", "DeviceAuthorizations", "normal_user_code"]

ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""Consonants, as RFC 8628 section 6.1 suggests."""

LIFETIME: Final = 600.0
"""Seconds that a device waits for approval."""

INTERVAL: Final = 5
"""Seconds between two questions of a device, at the beginning."""

_SLOWER: Final = 5
"""Seconds that are added when it asks too often (section 3.5)."""

_TOLERANCE: Final = 0.8
"""Of the interval: networks do not keep time."""

_MOST_WAITING: Final = 1000
"""Devices that wait at a time, in the whole installation."""


def normal_user_code(text: str) -> str:
    """A user code as it was meant: people write it small, with blanks, without the hyphen (section 6.1)."""
    return "".join(letter for letter in text.upper() if letter.isalnum())


class DeviceAuthorizations:
    """Requests of devices, and what was decided about them.

    Args:
        database: where they are kept.
        audit: gets a line for each decision.
        enroller: makes the device.
        guesses: counts wrong user codes by person and address, and requests by address.
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

    async def begin(
        self, caller: Caller, *, name: str, public_key: str, proof: str, agent: str
    ) -> tuple[Secret, str, float]:
        """Take the request of a device.

        Args:
            caller: for the address.
            name: that the device wants.
            public_key: of the device.
            proof: for `Purpose.AUTHORIZE` and the name.
            agent: what it says it is.

        Returns:
            Its device code, its user code as it is shown, and when both expire.

        Raises:
            InvalidProofError, TooManyCodesError, ValidationFailedError: see there.
        """
        check_name(name)
        now = self._clock.wall()
        said = check_proof(public_key, proof, Purpose.AUTHORIZE, name, now)
        self._count(f"begin {caller.address}")
        device_code = Secret(secrets.token_urlsafe(32))
        user_code = "".join(secrets.choice(ALPHABET) for _ in range(8))

        async def work(tx: AsyncConnection) -> None:
            await take_once(tx, said, now)
            table = device_authorizations.c
            await tx.execute(delete(device_authorizations).where(table.expires_at < now - LIFETIME))
            waiting = select(func.count()).where(table.decision.is_(None), table.expires_at > now)
            if (await tx.execute(waiting)).scalar_one() >= _MOST_WAITING:
                raise TooManyCodesError("too many devices wait for approval", retry_after=60)
            await tx.execute(
                insert(device_authorizations).values(
                    id=new_id("dau"),
                    device_code_hash=stored_hash(device_code),
                    user_code_hash=stored_hash(Secret(user_code)),
                    name=name,
                    public_key=public_key,
                    address=caller.address[:64],
                    agent=agent[:200],
                    created_at=now,
                    expires_at=now + LIFETIME,
                    poll_interval=INTERVAL,
                )
            )

        try:
            await self._database.write(work)
        except DatabaseConflictError as exc:
            raise InvalidProofError("the proof has been used; make a new one for each request") from exc
        return device_code, f"{user_code[:4]}-{user_code[4:]}", now + LIFETIME

    async def waiting(self, caller: Caller, user_code: str) -> Waiting:
        """What waits under a user code.

        Raises:
            ForbiddenError: the caller is no person.
            TooManyCodesError: too many wrong ones.
            UserCodeNotFoundError: nothing.
        """
        self._check_person(caller)
        code = self._checked(caller, user_code)
        row = await self._database.read(lambda tx: self._waiting(tx, code))
        if row is None:
            raise self._wrong(caller)
        return Waiting(
            user_code=f"{code[:4]}-{code[4:]}",
            name=row.name,
            key_thumbprint=thumbprint(row.public_key),
            address=row.address,
            agent=row.agent,
            created_at=row.created_at,
            expires_at=row.expires_at,
        )

    async def decide(self, caller: Caller, user_code: str, team: TeamId, *, approve: bool, name: str | None) -> None:
        """Approve a device into a team, or deny it.

        Args:
            caller: allowed to create devices in the team.
            user_code: that the device shows.
            team: that it comes into.
            approve: or deny.
            name: that it gets, instead of the one that it asks for.

        Raises:
            ForbiddenError: the caller is no person.
            TooManyCodesError: too many wrong codes.
            UserCodeNotFoundError: nothing waits under the code.
            ValidationFailedError: the name is none.
        """
        self._check_person(caller)
        if name is not None:
            check_name(name)
        code = self._checked(caller, user_code)
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> bool:
            row = await self._waiting(tx, code)
            if row is None:
                return False
            table = device_authorizations.c
            decided = await tx.execute(
                update(device_authorizations)
                .where(table.id == row.id, table.decision.is_(None), table.expires_at > now)
                .values(
                    decision="approved" if approve else "denied",
                    decided_at=now,
                    decided_by=caller.identity.id,
                    team_id=team,
                    name=row.name if name is None else name,
                )
            )
            if decided.rowcount != 1:
                return False
            action = "device_request.approved" if approve else "device_request.denied"
            after = {"name": name or row.name, "key": thumbprint(row.public_key), "address": row.address}
            await self._audit.record(tx, entry_of(caller, team, action, ("device_request", row.id), after=after))
            return True

        if not await self._database.write(work):
            raise self._wrong(caller)

    async def poll(self, caller: Caller, device_code: Secret, proof: str) -> Paired:
        """How a device's request stands; its first session token once it is approved.

        Args:
            caller: for address and request id.
            device_code: as `begin` gave it.
            proof: for `Purpose.POLL` and the hash of the device code.

        Raises:
            AccessDeniedError, AuthorizationPendingError, DeviceCodeInvalidError, DeviceDisabledError,
            DeviceKeyUnknownError, DeviceNameTakenError, ExpiredCodeError, InvalidProofError, SlowDownError: see there.
        """
        digest = stored_hash(device_code)
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> Paired | Exception:
            # What has to be kept although the answer is an error is returned, not raised.
            query = select(device_authorizations).where(device_authorizations.c.device_code_hash == digest)
            row = (await tx.execute(query.with_for_update())).first()
            if row is None:
                return DeviceCodeInvalidError("no device code of this installation; begin anew")
            said = check_proof(row.public_key, proof, Purpose.POLL, digest, now)
            await take_once(tx, said, now)
            if row.decision == "denied":
                return AccessDeniedError("somebody has denied the request")
            if row.decision is None:
                return await self._not_yet(tx, row, now)
            if row.device_id is not None:
                device, issued = await self._enroller.again(tx, row.device_id, row.public_key)
                action = "device.paired_again"
            elif now > row.expires_at + LIFETIME:
                return ExpiredCodeError("it was approved, but the device did not come for it; begin anew")
            else:
                by = f"user:{row.decided_by}"
                device, issued = await self._enroller.enroll(
                    tx, row.team_id, row.name, by, row.public_key, rename=False
                )
                await tx.execute(
                    update(device_authorizations)
                    .where(device_authorizations.c.id == row.id)
                    .values(device_id=device.id)
                )
                action = "device.paired"
            await self._audit.record(
                tx,
                AuditEntry(
                    actor=Actor("device", device.id, device.name),
                    team=device.team,
                    action=action,
                    target_kind="device",
                    target_id=device.id,
                    after={"device": device.id, "name": device.name, "device_request": row.id},
                    request_id=caller.request_id,
                    address=caller.address,
                ),
            )
            return Paired(
                device=PairedDevice(id=device.id, name=device.name, team=device.team),
                session_token=issued.session_token,
                expires_at=issued.expires_at,
                tunnel_url=issued.tunnel_url,
            )

        try:
            result = await self._database.write(work)
        except DatabaseConflictError as exc:
            raise InvalidProofError("the proof has been used; make a new one for each request") from exc
        if isinstance(result, Exception):
            raise result
        return result

    async def _not_yet(self, tx: AsyncConnection, row: Row[Any], now: float) -> Exception:
        if now >= row.expires_at:
            return ExpiredCodeError("nobody has decided in time; begin anew")
        too_soon = row.last_poll_at is not None and now - row.last_poll_at < row.poll_interval * _TOLERANCE
        interval = row.poll_interval + _SLOWER if too_soon else row.poll_interval
        await tx.execute(
            update(device_authorizations)
            .where(device_authorizations.c.id == row.id)
            .values(last_poll_at=now, poll_interval=interval)
        )
        if too_soon:
            return SlowDownError(f"ask every {interval} seconds", retry_after=interval)
        return AuthorizationPendingError("nobody has decided yet", retry_after=interval)

    async def _waiting(self, tx: AsyncConnection, code: str) -> Row[Any] | None:
        table = device_authorizations.c
        query = select(device_authorizations).where(
            table.user_code_hash == stored_hash(Secret(code)),
            table.decision.is_(None),
            table.expires_at > self._clock.wall(),
        )
        return (await tx.execute(query)).first()

    def _check_person(self, caller: Caller) -> None:
        if caller.identity.kind != "user":
            raise ForbiddenError("a person must look at what asks, and decide; a program makes a pairing token instead")

    def _checked(self, caller: Caller, user_code: str) -> str:
        """A user code that can be one, unless there were too many wrong ones."""
        for who in self._guessers(caller):
            if wait := self._guesses.wait(who, self._clock.monotonic()):
                raise TooManyCodesError("too many wrong codes; wait a little", retry_after=math.ceil(wait))
        code = normal_user_code(user_code)
        if len(code) != 8 or not set(code) <= set(ALPHABET):
            raise self._wrong(caller)
        return code

    def _wrong(self, caller: Caller) -> UserCodeNotFoundError:
        for who in self._guessers(caller):
            self._guesses.wrong(who, self._clock.monotonic())
        return UserCodeNotFoundError("no device waits under that code; look at it again, or start the device's anew")

    def _count(self, who: str) -> None:
        if (wait := self._guesses.wrong(who, self._clock.monotonic())) is not None:
            raise TooManyCodesError("too many requests from this address", retry_after=math.ceil(wait))

    @staticmethod
    def _guessers(caller: Caller) -> tuple[str, str]:
        return f"user {caller.identity.id}", f"code {caller.address}"
