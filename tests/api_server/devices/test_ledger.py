"""The ledger of revocations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api_server.devices.interfaces import Revocation
from api_server.devices.ledger import RevocationLedger
from common.crypto.errors import KeyFileError
from tests.api_server.fakes import AWAY, HOME


def revocation(name: str, expires_at: float = 100.0, **changes: object) -> Revocation:
    fields = {"id": name, "kind": "credential", "team": HOME, "expires_at": expires_at, **changes}
    return Revocation(**fields)  # type: ignore[arg-type]


@pytest.fixture(params=["file", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> RevocationLedger:
    return RevocationLedger(tmp_path / "revocations.json" if request.param == "file" else None)


def test_it_begins_empty(ledger: RevocationLedger) -> None:
    assert ledger.in_force(0) == []


def test_what_was_added_is_in_force_until_it_expires(ledger: RevocationLedger) -> None:
    first, second = revocation("a", 100), revocation("b", 200)
    ledger.add(first, 0)
    ledger.add(second, 0)
    assert ledger.in_force(99) == [first, second]
    assert ledger.in_force(100) == [second]


def test_said_twice_the_later_expiry_holds(ledger: RevocationLedger) -> None:
    for expires_at in (100, 300, 200):
        ledger.add(revocation("a", expires_at), 0)
    assert ledger.in_force(0) == [revocation("a", 300)]


def test_kind_and_team_are_part_of_the_name(ledger: RevocationLedger) -> None:
    for changes in ({}, {"kind": "device"}, {"team": AWAY}):
        ledger.add(revocation("a", **changes), 0)
    assert len(ledger.in_force(0)) == 3


def test_what_has_expired_is_dropped_from_the_file(tmp_path: Path) -> None:
    ledger = RevocationLedger(tmp_path / "revocations.json")
    for number in range(50):
        ledger.add(revocation(f"old-{number}", 100), 0)
    ledger.add(revocation("new", 500), 200)
    assert "old" not in (tmp_path / "revocations.json").read_text()


def test_it_lasts(tmp_path: Path) -> None:
    RevocationLedger(tmp_path / "revocations.json").add(revocation("a"), 0)
    assert RevocationLedger(tmp_path / "revocations.json").in_force(0) == [revocation("a")]
    assert (tmp_path / "revocations.json").stat().st_mode & 0o777 == 0o600


def test_processes_that_share_it_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "revocations.json"
    with ThreadPoolExecutor(8) as threads:
        # Each has a ledger, and so a descriptor of the lock, of its own, as a process has.
        list(threads.map(lambda number: RevocationLedger(path).add(revocation(f"c-{number}"), 0), range(40)))
    assert {each.id for each in RevocationLedger(path).in_force(0)} == {f"c-{number}" for number in range(40)}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"revocations": [{"id": 5}]}', b"\xff"])
def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "revocations.json"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="cannot be read as a list of revocations"):
        RevocationLedger(path).in_force(0)
    with pytest.raises(KeyFileError):
        RevocationLedger(path).add(revocation("a"), 0)
    assert path.read_bytes() == content, "and is not overwritten"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"missing/revocations\.json\.lock cannot be opened"):
        RevocationLedger(tmp_path / "missing" / "revocations.json").add(revocation("a"), 0)
