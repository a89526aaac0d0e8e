"""Keeps the session token of a paired device fresh, by its key.

at half of its life        renewed, with jitter, while the tunnel goes on: it is for the next dial
refused by the relay       renewed at once, and dialled again; a token expires while a device is switched off
the API does not answer    asked again, with back-off; a tunnel that is open does not need it
the API says no            that is final: the device was disabled, revoked or deleted
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import trio

from common.backoff import Backoff
from common.crypto.device_keys import DeviceKey
from common.logging import Logger
from common.tunnel.errors import HandshakeRefusedError, TunnelLostError
from common.tunnel.interfaces import DeviceHandler
from common.wire.messages import Service
from edge_agent.agent import Dialer
from edge_agent.pairing.client import ApiClient
from edge_agent.pairing.credentials import Credential, CredentialStore
from edge_agent.pairing.errors import ApiRefusedError, ApiUnreachableError, PairingError

__all__ = ["Renewer", "RenewingDialer"]

_FINAL = frozenset({"device_disabled", "device_key_unknown", "invalid_proof"})
"""Codes of the API after which asking again cannot succeed until somebody does something."""

_SHORTEST = 30.0
"""Seconds between two renewals at least, however short the tokens live."""


class Renewer:
    """Renews.

    Args:
        store: holds the credential, and gets the next session token.
        api: of the installation.
        logger: one line a renewal, or why there is none.
        rng: source of the jitter.

    Raises:
        PairingError: the store holds no credential that can be used.
    """

    def __init__(
        self, store: CredentialStore, api: ApiClient, logger: Logger, *, rng: random.Random | None = None
    ) -> None:
        self._store = store
        self._api = api
        self._logger = logger
        self._rng = rng if rng is not None else random.Random()  # noqa: S311  jitter, no secret
        credential, key = store.read()
        self.credential: Credential = credential
        self._key: DeviceKey = key
        self._one_at_a_time = trio.Lock()

    async def renew(self) -> None:
        """Replace the session token.

        Raises:
            ApiRefusedError: the API says no.
            ApiUnreachableError: it does not answer.
            FolderError: the next token cannot be kept.
        """
        async with self._one_at_a_time:
            renewed = await self._api.renew(self._key, self.credential.device)
            self.credential = msgspec.structs.replace(
                self.credential,
                tunnel_url=renewed.tunnel_url,
                expires_at=renewed.expires_at,
                issued_at=self._api.now(),
            )
            self._store.save(self.credential, renewed.session_token)
        self._logger.info("session token renewed", expires_at=renewed.expires_at)

    async def run(self) -> None:
        """Renew at half of each token's life, until cancelled."""
        backoff = Backoff(base=5.0, maximum=600.0, healthy_after=0.0, rng=self._rng)
        delay = self._until_half_life()
        while True:
            await trio.sleep(delay)
            try:
                await self.renew()
            except PairingError as exc:
                code = exc.api_code if isinstance(exc, ApiRefusedError) else exc.code
                self._logger.warning("the session token is not renewed", reason=code, detail=exc.detail)
                delay = max(backoff.next_delay(exc.retry_after), _SHORTEST if code in _FINAL else 0.0)
            else:
                backoff.connected_for(delay)
                delay = self._until_half_life()

    def _until_half_life(self) -> float:
        life = self.credential.expires_at - self.credential.issued_at
        at = self.credential.issued_at + life * self._rng.uniform(0.4, 0.6)
        return max(_SHORTEST, at - self._api.now())


class RenewingDialer:
    """A dialer whose refused session token is renewed before it is given up.

    Args:
        dialer: dials; reads the session token anew each time.
        renewer: gets the next one.
        logger: told why there is none.
    """

    def __init__(self, dialer: Dialer, renewer: Renewer, logger: Logger) -> None:
        self._dialer = dialer
        self._renewer = renewer
        self._logger = logger

    async def run_tunnel(self, handler: DeviceHandler, services: Sequence[Service]) -> TunnelLostError:
        try:
            return await self._dialer.run_tunnel(handler, services)
        except HandshakeRefusedError as exc:
            if exc.final and not self._dialer.token_changed():
                await self._renew_after(exc)
            raise

    async def _renew_after(self, refusal: HandshakeRefusedError) -> None:
        """See that another token is in place; when that is not certain to be impossible, the refusal is not final.

        Raises:
            HomeportError: the API cannot be asked now, so that dialling has to go on.
        """
        try:
            await self._renewer.renew()
        except ApiRefusedError as exc:
            self._logger.error("the session token cannot be renewed", reason=exc.api_code, detail=exc.detail)  # noqa: TRY400
            if exc.api_code not in _FINAL:
                raise ApiUnreachableError(exc.detail, retry_after=exc.retry_after) from refusal
        except PairingError as exc:
            self._logger.warning("the session token cannot be renewed now", reason=exc.code, detail=exc.detail)
            raise ApiUnreachableError(exc.detail) from refusal

    def token_changed(self) -> bool:
        return self._dialer.token_changed()
