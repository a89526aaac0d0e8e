"""The keys of cookies: a file, one a line, and a key of its own for each purpose."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from api_server.auth.signin.cookie_keys import CookieKeys, ensure_cookie_keys, new_cookie_key
from api_server.auth.signin.cookies import Cookies, cookie_values
from common.crypto.errors import KeyFileError
from common.secret import Secret


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "cookie-keys"
    ensure_cookie_keys(path)
    before = path.read_bytes()
    ensure_cookie_keys(path)
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(CookieKeys.from_file(path).derive("session")) == 1


def test_each_purpose_and_each_key_is_apart(tmp_path: Path) -> None:
    lines = [new_cookie_key().reveal() for _ in range(2)]
    keys = CookieKeys.from_file(write(tmp_path / "keys", "\n".join(["", *lines, "", ""])))
    derived = [*keys.derive("session"), *keys.derive("transaction"), *keys.derive("csrf")]
    assert len(set(derived)) == 6
    assert all(len(key) == 32 for key in derived)
    assert keys.derive("session")[0] == CookieKeys(Secret(lines[0])).derive("session")[0]


@pytest.mark.parametrize(
    "text",
    ["x" * 44, "A" * 42, "A" * 43, "not base64url at all!", "AAAA\n" * 20, new_cookie_key().reveal() + "\nshort"],
    ids=["text", "short", "weak", "no base64url", "several short", "the second short"],
)
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        CookieKeys.from_file(write(tmp_path / "keys", text))
    assert text.split()[0] not in caught.value.detail.rpartition("keys: ")[2]


def test_too_many_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="1 to 16"):
        CookieKeys.from_file(write(tmp_path / "keys", "\n".join(new_cookie_key().reveal() for _ in range(17))))


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    path = write(tmp_path / "keys", new_cookie_key().reveal())
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        CookieKeys.from_file(path)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("", []),
        ("a=1", ["1"]),
        ("b=2; a=1", ["1"]),
        ("a=1; a=2", ["1", "2"]),
        ("a=1;a=2;  a =3", ["1", "2"]),
        ("aa=1; A=2; =a; a", []),
        ("a=1=2", ["1=2"]),
        ('a="1"', ['"1"']),
        ("x=" + "y" * 40_000 + "; a=1", []),
    ],
)
def test_cookies_as_browsers_send_them(header: str, values: list[str]) -> None:
    assert cookie_values(header, "a") == values


def test_a_sign_in_cookie_under_another_name_or_changed_is_none() -> None:
    cookies = Cookies(CookieKeys(new_cookie_key()), secure=False, callback_path="/cb")
    sealed = cookies.set_session(Secret("A" * 43), 60).partition(";")[0]
    assert cookies.read_session(sealed) == Secret("A" * 43)
    for changed in (sealed + "A", sealed[:-1], sealed.replace("AAAA.", "AAAB."), "homeport_session=" + "A" * 43):
        assert cookies.read_session(changed) is None
