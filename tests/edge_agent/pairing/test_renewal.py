"""Session tokens that a paired device renews: P3 and P4 from its side."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from common.errors import HomeportError
from common.secret import Secret
from common.tunnel.errors import HandshakeRefusedError, TunnelLostError
from common.tunnel.interfaces import DeviceHandler
from common.wire.messages import Service
from edge_agent.pairing import ApiClient, CredentialStore, Renewer, RenewingDialer, pair
from edge_agent.pairing.errors import ApiUnreachableError, NotPairedError
from edge_agent.redial import Redial, Retry, Stop
from tests.api_server.people import DAY
from tests.edge_agent.logs import RecordingLogger
from tests.edge_agent.pairing import Installation

NO_HANDLER: Any = None


class RefusingDialer:
    """Refuses the token that is in the file, as a relay would."""

    def __init__(self, store: CredentialStore, *, status: int = 401, reason: str = "session_token_expired") -> None:
        self._store = store
        self._status = status
        self._reason = reason
        self._shown = ""

    async def run_tunnel(self, handler: DeviceHandler, services: Sequence[Service]) -> TunnelLostError:
        self._shown = self._store.token_file.read_text()
        raise HandshakeRefusedError("no", http_status=self._status, reason=self._reason)

    def token_changed(self) -> bool:
        return self._store.token_file.read_text() != self._shown


def paired(
    api: Installation, folder: Path, work: Callable[[CredentialStore, Renewer, RecordingLogger], Awaitable[None]]
) -> None:
    """Do something with a device that is paired, on a clock that jumps."""

    async def main() -> None:
        store, log = CredentialStore(folder), RecordingLogger()
        # The stage's clock stands still; trio's is what passes.
        client = ApiClient(api.url, wall=lambda: api.home.clock.wall())
        try:
            token = Secret(
                await trio.to_thread.run_sync(lambda: api.call("POST", "/api/pairing-tokens", json={})["token"])
            )
            await pair(store, client, token, "lathe")
            await work(store, Renewer(store, client, log.as_logger(), rng=random.Random(1)), log)
        finally:
            await client.aclose()

    trio.run(main)


async def outcome_of(dialer: RenewingDialer) -> Retry | Stop:
    """What the agent does after a dial."""
    with pytest.raises(HomeportError) as caught:
        await dialer.run_tunnel(NO_HANDLER, [])
    return Redial().after_failure(caught.value, token_changed=dialer.token_changed())


def change(api: Installation, method: str, path: str, **options: Any) -> Awaitable[Any]:
    """A request of somebody else, from trio."""
    return trio.to_thread.run_sync(lambda: api.call(method, path, **options))


@pytest.mark.parametrize(("status", "reason"), [(401, "session_token_expired"), (403, "revoked")])
def test_p3_a_token_that_was_refused_is_renewed_and_dialled_with(
    api: Installation, tmp_path: Path, status: int, reason: str
) -> None:
    async def work(store: CredentialStore, renewer: Renewer, log: RecordingLogger) -> None:
        before = store.token_file.read_text()
        dialer = RenewingDialer(RefusingDialer(store, status=status, reason=reason), renewer, log.as_logger())
        assert isinstance(await outcome_of(dialer), Retry)
        assert store.token_file.read_text() != before
        assert store.read()[0].device == renewer.credential.device

    paired(api, tmp_path / "agent", work)


def test_p4_a_device_that_was_disabled_or_revoked_stops(api: Installation, tmp_path: Path) -> None:
    async def work(store: CredentialStore, renewer: Renewer, log: RecordingLogger) -> None:
        dialer = RenewingDialer(RefusingDialer(store, status=403, reason="revoked"), renewer, log.as_logger())
        await change(api, "PATCH", "/api/devices/lathe", json={"disabled": True})
        assert isinstance(await outcome_of(dialer), Stop)
        await change(api, "PATCH", "/api/devices/lathe", json={"disabled": False})
        assert isinstance(await outcome_of(dialer), Retry)
        await change(api, "POST", "/api/devices/lathe/revoke")
        assert isinstance(await outcome_of(dialer), Stop)

    paired(api, tmp_path / "agent", work)


def test_while_the_api_does_not_answer_a_refusal_is_not_final(api: Installation, tmp_path: Path) -> None:
    """A device that was switched off for days comes back before the API does."""

    async def work(store: CredentialStore, renewer: Renewer, log: RecordingLogger) -> None:
        nowhere = ApiClient("http://127.0.0.1:1")
        dialer = RenewingDialer(RefusingDialer(store), Renewer(store, nowhere, log.as_logger()), log.as_logger())
        with pytest.raises(ApiUnreachableError):
            await dialer.run_tunnel(NO_HANDLER, [])
        assert isinstance(await outcome_of(dialer), Retry)
        await nowhere.aclose()

    paired(api, tmp_path / "agent", work)


def test_a_refusal_for_another_reason_is_not_the_tokens_fault(api: Installation, tmp_path: Path) -> None:
    async def work(store: CredentialStore, renewer: Renewer, log: RecordingLogger) -> None:
        before = store.token_file.read_text()
        dialer = RenewingDialer(RefusingDialer(store, status=503, reason="over_capacity"), renewer, log.as_logger())
        assert isinstance(await outcome_of(dialer), Retry)
        assert store.token_file.read_text() == before

    paired(api, tmp_path / "agent", work)


def test_p3_a_token_is_renewed_at_about_half_of_its_life(api: Installation, tmp_path: Path) -> None:
    async def work(store: CredentialStore, renewer: Renewer, log: RecordingLogger) -> None:
        before = store.token_file.read_text()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renewer.run)
            await trio.testing.wait_all_tasks_blocked()
            # A day passes at the API: the renewer looks at its clock when it wakes up, which is not before the half.
            assert store.token_file.read_text() == before
            nursery.cancel_scope.cancel()
        api.home.clock.advance(0.7 * DAY)
        with trio.move_on_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(renewer.run)
                while store.token_file.read_text() == before:
                    await trio.sleep(0.05)
                nursery.cancel_scope.cancel()
        assert store.token_file.read_text() != before
        assert renewer.credential.issued_at == api.home.clock.wall()

    # The least delay between two renewals is 30 s: of a clock that runs fast.
    async def main() -> None:
        store, log = CredentialStore(tmp_path / "agent"), RecordingLogger()
        client = ApiClient(api.url, wall=lambda: api.home.clock.wall())
        try:
            token = Secret(
                await trio.to_thread.run_sync(lambda: api.call("POST", "/api/pairing-tokens", json={})["token"])
            )
            await pair(store, client, token, "lathe")
            await work(store, Renewer(store, client, log.as_logger(), rng=random.Random(1)), log)
        finally:
            await client.aclose()

    trio.run(main, clock=trio.testing.MockClock(rate=100))


def test_a_folder_without_a_credential_renews_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotPairedError):
        Renewer(CredentialStore(tmp_path), NO_HANDLER, NO_HANDLER)
