"""The two ways in, from the command line: a pairing token, and the device flow.

Both survive being cut off anywhere. The key is on the disk before the API is asked. An answer that was lost, or could
not be kept, is asked for again by the same key: by running the same command again, and for the device flow within it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from common.backoff import Backoff
from common.crypto.api_tokens import stored_hash
from common.crypto.device_keys import DeviceKey, thumbprint
from common.secret import Secret
from edge_agent.pairing.client import ApiClient, DeviceCodes, Paired
from edge_agent.pairing.credentials import Credential, CredentialStore
from edge_agent.pairing.errors import (
    AlreadyPairedError,
    ApiRefusedError,
    ApiUnreachableError,
    NotPairedError,
    PairingError,
)

__all__ = ["login", "pair"]

_T = TypeVar("_T")

_PATIENCE: Final = 60.0
"""Seconds that an API which does not answer is asked again."""


async def pair(
    store: CredentialStore,
    api: ApiClient,
    token: Secret,
    name: str | None,
    *,
    otherwise: str | None = None,
    replace: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Credential:
    """Pair with a pairing token.

    Args:
        store: gets the credential.
        api: of the installation.
        token: `hpp_...`.
        name: that the device wants; None for the one of the token.
        otherwise: the name when neither says one.
        replace: also when the folder holds a credential; the key is used again.
        say: told when the API has to be asked again.

    Raises:
        PairingError: it did not succeed; nothing was kept.
    """
    key = _prepared(store, replace=replace)
    digest = stored_hash(token)
    try:
        paired = await _patiently(lambda: api.exchange(key, token.reveal(), digest, name), say)
    except ApiRefusedError as exc:
        if exc.api_code != "device_name_needed" or otherwise is None:
            raise
        paired = await _patiently(lambda: api.exchange(key, token.reveal(), digest, otherwise), say)
    return _keep(store, api, paired)


async def login(
    store: CredentialStore,
    api: ApiClient,
    name: str,
    agent: str,
    *,
    show: Callable[[DeviceCodes, str], None],
    replace: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Credential:
    """Pair by the device flow: show a code, and wait until somebody has decided.

    Args:
        store: gets the credential.
        api: of the installation.
        name: that the device wants.
        agent: what it is, for the person who decides.
        show: shows the codes, and the thumbprint of the key to compare.
        replace: also when the folder holds a credential.
        say: told when the API has to be asked again.

    Raises:
        PairingError: it was denied, or nobody decided in time, or the API cannot be reached.
    """
    key = _prepared(store, replace=replace)
    codes = await _patiently(lambda: api.authorize(key, name, agent), say)
    show(codes, thumbprint(key.public))
    digest = stored_hash(Secret(codes.device_code))
    interval = codes.interval
    while True:
        await trio.sleep(interval)
        try:
            paired = await _patiently(lambda: api.poll(key, codes.device_code, digest), say)
        except ApiRefusedError as exc:
            if exc.api_code not in ("authorization_pending", "slow_down"):
                raise
            interval = max(interval, exc.retry_after or 0.0)
        else:
            return _keep(store, api, paired)


def _prepared(store: CredentialStore, *, replace: bool) -> DeviceKey:
    try:
        credential, _ = store.read()
    except NotPairedError:
        return store.prepare()
    except PairingError:
        if not replace:
            raise
        return store.prepare()
    if not replace:
        raise AlreadyPairedError(
            f"{store.folder} belongs to the device {credential.name} of the team {credential.team}; "
            "name another folder by --data-dir, or say --replace"
        )
    return store.prepare()


async def _patiently(ask: Callable[[], Awaitable[_T]], say: Callable[[str], None]) -> _T:
    """Ask again for a while when there is no answer, or one to wait: the same key may ask as often as it likes."""
    backoff = Backoff(base=0.5, maximum=8.0)
    deadline = trio.current_time() + _PATIENCE
    while True:
        try:
            return await ask()
        except ApiUnreachableError as exc:
            delay, why = backoff.next_delay(), exc.detail
            if trio.current_time() + delay > deadline:
                raise
        except ApiRefusedError as exc:
            busy = exc.http_status in (429, 503) and exc.retry_after is not None
            if not busy or exc.retry_after is None or trio.current_time() + exc.retry_after > deadline:
                raise
            delay, why = exc.retry_after, exc.detail
        say(f"{why}; asking again in {delay:.1f} s")
        await trio.sleep(delay)


def _keep(store: CredentialStore, api: ApiClient, paired: Paired) -> Credential:
    credential = Credential(
        device=paired.device.id,
        name=paired.device.name,
        team=paired.device.team,
        api=api.url,
        tunnel_url=paired.tunnel_url,
        expires_at=paired.expires_at,
        issued_at=api.now(),
    )
    store.save(credential, paired.session_token)
    return credential
