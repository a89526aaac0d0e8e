"""The session token of the demo device, issued by the API and renewed long before it expires."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from common.backoff import Backoff
from common.clock import Clock
from common.secret import Secret
from homeport.api_client import ApiClient, IssuedToken
from homeport.errors import ApiError, ApiRefusedError
from homeport.up.data_directory import DataDirectory
from homeport.up.plan import DEMO_DEVICE, DEMO_SERVICE

__all__ = ["ApiAccess", "DemoTokens"]


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API is, and who asks."""

    url: str
    token: Secret
    team: str


class DemoTokens:
    """Gets them. The agent reads the file at each dial.

    Args:
        api: issues them.
        directory: where the current one is written.
        clock: for their life.
        shortest_wait: seconds between two renewals at least, however short the tokens live, and between a failure and
            the next attempt at most, at first.
    """

    def __init__(self, api: ApiAccess, directory: DataDirectory, clock: Clock, *, shortest_wait: float = 60.0) -> None:
        self._api = api
        self._directory = directory
        self._clock = clock
        self._shortest_wait = shortest_wait
        self._expires_at = 0.0

    async def renew(self) -> None:
        """Replace the token.

        Raises:
            ApiError: the API does not answer, or refuses.
        """
        issued = await asyncio.to_thread(self._issue)
        self._directory.write_demo_token(issued.session_token)
        self._expires_at = issued.expires_at

    async def keep_fresh(self, say: Callable[[str], None]) -> None:
        """Renew it at half of its life, for ever; `say` is told when that fails, and it is tried again."""
        backoff = Backoff(base=self._shortest_wait, maximum=self._shortest_wait * 10, healthy_after=0.0)
        delay = self._half_life()
        while True:
            await asyncio.sleep(delay)
            try:
                await self.renew()
            except ApiError as exc:
                delay = backoff.next_delay(exc.retry_after)
                say(f"the demo device's session token is not renewed yet: {exc.detail}")
            else:
                backoff.connected_for(delay)
                delay = self._half_life()

    def _half_life(self) -> float:
        return max(self._shortest_wait, (self._expires_at - self._clock.wall()) / 2)

    def _issue(self) -> IssuedToken:
        with ApiClient(self._api.url, self._api.token, self._api.team) as client:
            try:
                return client.issue_session_token(DEMO_DEVICE)
            except ApiRefusedError as exc:
                if exc.reason != "no_such_device":
                    raise
            body = {"team": self._api.team, "name": DEMO_DEVICE, "services": [DEMO_SERVICE]}
            client.ask("POST", "devices", body=body, of_team=False)
            return client.issue_session_token(DEMO_DEVICE)
