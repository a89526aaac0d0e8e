"""A device that pairs, against the real API: P1, P2, P3 from its side."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from api_server.teams.roles import Role
from common.crypto.api_tokens import stored_hash
from common.crypto.device_keys import DeviceKey, thumbprint
from common.secret import Secret
from edge_agent.pairing import ApiClient, Credential, CredentialStore, login, pair
from edge_agent.pairing.client import DeviceCodes
from edge_agent.pairing.errors import (
    AlreadyPairedError,
    ApiRefusedError,
    ApiUnreachableError,
    ApiUrlError,
    FolderError,
    NotPairedError,
)
from tests.edge_agent.pairing import Installation


def token_of(api: Installation, **body: object) -> Secret:
    """A new pairing token."""
    return Secret(api.call("POST", "/api/pairing-tokens", json=body)["token"])


def run_pair(
    api: Installation, folder: Path, token: Secret, name: str | None = "lathe", *, replace: bool = False
) -> Credential:
    """What the command does, once."""

    async def work() -> Credential:
        # The stage's clock stands still; the device's goes with it.
        client = ApiClient(api.url, wall=api.home.clock.wall)
        try:
            return await pair(CredentialStore(folder), client, token, name, replace=replace)
        finally:
            await client.aclose()

    return trio.run(work)


def test_a_device_pairs_and_keeps_what_it_was_given(api: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    credential = run_pair(api, folder, token_of(api))
    assert (credential.name, credential.team, credential.api) == ("lathe", "home", api.url)
    kept, key = CredentialStore(folder).read()
    assert kept == credential
    device = api.call("GET", "/api/devices/lathe")
    assert (device["id"], device["paired"]) == (credential.device, True)
    for name in ("device-key", "device.json", "session-token"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert key.private.reveal() not in (folder / "device.json").read_text()
    assert not (folder / ".room").exists()


def test_who_made_the_token_may_name_the_device(api: Installation, tmp_path: Path) -> None:
    def named(folder: str, token: Secret, name: str | None) -> str:
        async def work() -> Credential:
            client = ApiClient(api.url, wall=api.home.clock.wall)
            try:
                return await pair(CredentialStore(tmp_path / folder), client, token, name, otherwise="this-host")
            finally:
                await client.aclose()

        return trio.run(work).name

    assert named("a", token_of(api, name="lathe"), None) == "lathe"
    assert named("b", token_of(api, name="lathe"), "mill") == "mill"
    assert named("c", token_of(api), None) == "this-host"


def test_p3_an_answer_that_was_lost_is_had_by_the_same_command(api: Installation, tmp_path: Path) -> None:
    folder, token = tmp_path / "agent", token_of(api)
    store = CredentialStore(folder)
    key = store.prepare()

    async def ask() -> str:
        client = ApiClient(api.url, wall=api.home.clock.wall)
        try:
            return (await client.exchange(key, token.reveal(), stored_hash(token), "lathe")).device.id
        finally:
            await client.aclose()

    lost = trio.run(ask)  # the device goes down before it keeps anything
    with pytest.raises(NotPairedError):
        store.read()
    assert run_pair(api, folder, token).device == lost
    assert len(api.call("GET", "/api/devices")["items"]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is a mount, and only root mounts")
def test_p3_a_full_disk_is_found_before_the_token_is_spent(api: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("this root may not mount, as in most containers")
    try:
        token = token_of(api)
        with pytest.raises(FolderError, match="nothing was asked for"):
            run_pair(api, folder, token)
        assert api.call("GET", "/api/pairing-tokens")["items"][0]["used"] == 0
        subprocess.run(["mount", "-o", "remount,size=1m", folder], check=True)
        run_pair(api, folder, token)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_p3_a_disk_that_fills_up_meanwhile_costs_nothing(api: Installation, tmp_path: Path) -> None:
    folder, token = tmp_path / "agent", token_of(api)
    store = CredentialStore(folder)
    store.prepare()
    (folder / "session-token").mkdir()  # what the credential cannot replace
    with pytest.raises(FolderError, match="repeat the same command"):
        run_pair(api, folder, token)
    (folder / "session-token").rmdir()
    credential = run_pair(api, folder, token)
    assert [each["id"] for each in api.call("GET", "/api/devices")["items"]] == [credential.device]


def test_a_folder_that_is_in_use_is_not_overwritten_by_mistake(api: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    first = run_pair(api, folder, token_of(api))
    key = (folder / "device-key").read_text()
    with pytest.raises(AlreadyPairedError, match="lathe"):
        run_pair(api, folder, token_of(api), "mill")
    second = run_pair(api, folder, token_of(api), "mill", replace=True)
    assert second.device != first.device
    assert (folder / "device-key").read_text() == key


def test_what_the_api_refuses_is_said_with_its_code(api: Installation, tmp_path: Path) -> None:
    token = token_of(api)
    run_pair(api, tmp_path / "one", token)
    with pytest.raises(ApiRefusedError) as caught:
        run_pair(api, tmp_path / "two", token)
    assert (caught.value.api_code, caught.value.http_status) == ("pairing_token_used", 409)
    assert caught.value.problem()["code"] == "pairing_token_used"
    assert token.reveal() not in str(caught.value)


def test_a_device_whose_clock_is_wrong_takes_the_time_of_the_api(api: Installation, tmp_path: Path) -> None:
    async def work() -> Credential:
        # The stage's clock is years behind the Date of its answers; a device that is as wrong is put right by it once.
        client = ApiClient(api.url, wall=lambda: 0.0)
        try:
            return await pair(CredentialStore(tmp_path / "agent"), client, token_of_now, "lathe")
        finally:
            await client.aclose()

    api.home.clock.wall_now = time.time()
    token_of_now = token_of(api)
    credential = trio.run(work)
    assert abs(credential.issued_at - time.time()) < 60


def test_p2_the_device_flow(api: Installation, tmp_path: Path) -> None:
    ann = api.do(lambda: api.home.person("ann", home=Role.ADMIN))
    shown: list[tuple[DeviceCodes, str]] = []

    def approve(codes: DeviceCodes, thumbprint: str) -> None:
        shown.append((codes, thumbprint))
        body = {"user_code": codes.user_code, "decision": "approve"}
        api.call("POST", "/api/device-approvals", ann, json=body)

    credential = trio.run(lambda: _login(api, tmp_path / "agent", approve), clock=trio.testing.MockClock(rate=50))
    assert (credential.name, credential.team) == ("lathe", "home")
    assert shown[0][1] == _thumbprint(tmp_path / "agent")
    device = api.call("GET", "/api/devices/lathe")
    assert device["created_by"] == f"user:{ann.id}"


def test_p2_a_denied_device_is_told_so(api: Installation, tmp_path: Path) -> None:
    ann = api.do(lambda: api.home.person("ann", home=Role.ADMIN))

    def deny(codes: DeviceCodes, _thumbprint: str) -> None:
        api.call("POST", "/api/device-approvals", ann, json={"user_code": codes.user_code, "decision": "deny"})

    with pytest.raises(ApiRefusedError) as caught:
        trio.run(lambda: _login(api, tmp_path / "agent", deny), clock=trio.testing.MockClock(rate=50))
    assert caught.value.api_code == "access_denied"
    with pytest.raises(NotPairedError):
        CredentialStore(tmp_path / "agent").read()


async def _login(api: Installation, folder: Path, show: object) -> Credential:
    client = ApiClient(api.url, wall=api.home.clock.wall)
    try:
        return await login(CredentialStore(folder), client, "lathe", "agent/0 test", show=show)  # type: ignore[arg-type]
    finally:
        await client.aclose()


def _thumbprint(folder: Path) -> str:
    return thumbprint(DeviceKey(Secret((folder / "device-key").read_text().strip())).public)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "homeport.example",
        "ftp://homeport.example",
        "http://homeport.example",
        "https://a:b@homeport.example",
        "x:y",
    ],
)
def test_a_url_that_cannot_be_used_or_would_send_the_token_in_clear_is_refused(url: str) -> None:
    with pytest.raises(ApiUrlError):
        trio.run(_open, url)


async def _open(url: str) -> None:
    await ApiClient(url).aclose()


def test_a_folder_that_others_may_read_is_not_trusted(api: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    run_pair(api, folder, token_of(api))
    os.chmod(folder / "device-key", 0o644)
    with pytest.raises(FolderError):
        CredentialStore(folder).read()


def test_an_api_that_is_not_there_is_asked_again_for_a_while(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    said: list[str] = []

    async def work() -> None:
        client = ApiClient(url)
        try:
            await pair(CredentialStore(tmp_path / "a"), client, Secret("hpp_x"), "lathe", say=said.append)
        finally:
            await client.aclose()

    with pytest.raises(ApiUnreachableError, match="does not answer"):
        trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0.05))
    assert len(said) > 5
    assert "asking again" in said[0]
