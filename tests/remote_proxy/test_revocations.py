from __future__ import annotations

from common.ids import TeamId
from remote_proxy.revocations import RevocationKey, RevocationKind, Revocations
from tests.remote_proxy.fakes import HOME

NOW = 1_795_000_000.0


class Live:
    """A live tunnel of device `cam`, admitted with credential `cred`."""

    def __init__(self, credential: str = "cred", device: str = "cam") -> None:
        self.revocation_keys = (key(RevocationKind.DEVICE, device), key(RevocationKind.CREDENTIAL, credential))
        self.closed: list[str] = []

    def close(self, reason: str) -> None:
        self.closed.append(reason)


def key(kind: RevocationKind, id_: str, team: TeamId = HOME) -> RevocationKey:
    return RevocationKey(kind, team, id_)


def test_a_revoked_device_is_refused_and_its_tunnels_are_closed_within_the_call() -> None:
    revocations = Revocations()
    cam, other = Live(), Live("cred2", "door")
    revocations.attach(cam)
    revocations.attach(other)
    assert revocations.revoke(key(RevocationKind.DEVICE, "cam"), NOW + 60) == 1
    assert (cam.closed, other.closed) == (["revoked"], [])
    assert revocations.revoked(cam.revocation_keys, NOW)
    assert not revocations.revoked(other.revocation_keys, NOW)


def test_a_revoked_credential_ends_that_one_tunnel_of_the_device() -> None:
    revocations = Revocations()
    older, newer = Live("cred1"), Live("cred2")
    revocations.attach(older)
    revocations.attach(newer)
    assert revocations.revoke(key(RevocationKind.CREDENTIAL, "cred1"), NOW + 60) == 1
    assert (older.closed, newer.closed) == (["revoked"], [])
    assert not revocations.revoked(newer.revocation_keys, NOW)


def test_another_team_is_never_meant() -> None:
    revocations = Revocations()
    cam = Live()
    revocations.attach(cam)
    assert revocations.revoke(key(RevocationKind.DEVICE, "cam", TeamId("other")), NOW + 60) == 0
    assert cam.closed == []
    assert not revocations.revoked(cam.revocation_keys, NOW)


def test_a_device_and_a_credential_of_the_same_text_are_two_things() -> None:
    revocations = Revocations()
    cam = Live(credential="cam", device="door")
    revocations.attach(cam)
    assert revocations.revoke(key(RevocationKind.DEVICE, "cam"), NOW + 60) == 0


def test_a_detached_tunnel_is_left_alone() -> None:
    revocations = Revocations()
    gone, alive = Live(), Live()
    revocations.attach(gone)
    revocations.attach(alive)
    revocations.detach(gone)
    revocations.detach(gone)
    assert revocations.revoke(key(RevocationKind.DEVICE, "cam"), NOW + 60) == 1
    assert (gone.closed, alive.closed) == ([], ["revoked"])


def test_the_last_detach_leaves_nothing_behind() -> None:
    revocations = Revocations()
    cam = Live()
    revocations.attach(cam)
    revocations.detach(cam)
    assert revocations.revoke(key(RevocationKind.DEVICE, "cam"), NOW + 60) == 0


def test_a_tunnel_that_detaches_while_it_is_closed() -> None:
    revocations = Revocations()

    class Detaching(Live):
        def close(self, reason: str) -> None:
            super().close(reason)
            revocations.detach(self)

    tunnels = [Detaching() for _ in range(3)]
    for tunnel in tunnels:
        revocations.attach(tunnel)
    assert revocations.revoke(key(RevocationKind.DEVICE, "cam"), NOW + 60) == 3
    assert [tunnel.closed for tunnel in tunnels] == [["revoked"]] * 3


def test_it_holds_until_it_expires_and_is_then_forgotten() -> None:
    revocations = Revocations()
    keys = Live().revocation_keys
    revocations.revoke(keys[0], NOW + 60)
    assert revocations.revoked(keys, NOW + 59)
    assert not revocations.revoked(keys, NOW + 60)
    assert revocations.prune(NOW + 59) == 0
    assert len(revocations) == 1
    assert revocations.prune(NOW + 60) == 1
    assert len(revocations) == 0


def test_a_late_repetition_never_shortens_it() -> None:
    revocations = Revocations()
    keys = Live().revocation_keys
    revocations.revoke(keys[0], NOW + 600)
    revocations.revoke(keys[0], NOW + 60)
    assert revocations.revoked(keys, NOW + 599)
    assert dict(revocations) == {keys[0]: NOW + 600}


def test_what_was_restored_may_come_back() -> None:
    revocations = Revocations()
    keys = Live().revocation_keys
    revocations.revoke(keys[0], NOW + 60)
    assert revocations.restore(keys[0])
    assert not revocations.restore(keys[0])
    assert not revocations.revoked(keys, NOW)
