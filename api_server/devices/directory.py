"""Which device a name means, for the gateway: the relay first, the database when the relay knows nothing.

    the relay has a session of that id or name      that one
    else the team has such a device                 its session, if it has one under its id: it was renamed since
    else                                            there is no such device (404), which is not "offline" (502)

So nothing is asked of the database while a device is connected, and when the database is away, whoever is connected is
reached as before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from api_server.db.database import Database
from api_server.db.errors import DatabaseError
from api_server.devices.store import DeviceStore
from api_server.relay import Location
from common.ids import TeamId
from common.sessions.errors import DeviceOfflineError, DeviceUnknownError

__all__ = ["RegisteredDevices"]


class RegisteredDevices:
    """Finds devices.

    Args:
        database: of the devices.
        locate: asks the relay by id or name; raises `DeviceOfflineError` when it has no session.
    """

    def __init__(self, database: Database, locate: Callable[[TeamId, str], Awaitable[Location]]) -> None:
        self._database = database
        self._locate = locate
        self._store = DeviceStore()

    async def locate(self, team: TeamId, device: str) -> Location:
        """Where a device is.

        Raises:
            DeviceOfflineError: it has no session, or only the relay could be asked, and knows none.
            DeviceUnknownError: the team has no device of that id or name.
            RelayUnavailableError: the relay does not answer.
        """
        try:
            return await self._locate(team, device)
        except DeviceOfflineError as exc:
            offline = exc
        try:
            found = await self._database.read(lambda tx: self._store.find(tx, team, device))
        except DatabaseError:
            raise offline from None
        if found is None:
            raise DeviceUnknownError(f"the team has no device {device}") from None
        if found.id != device:
            return await self._locate(team, found.id)
        raise offline
