"""The keys that tokens are hashed with."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_server.tokens.keys import TokenKeys, ensure_token_keys
from common.crypto.api_tokens import new_api_token, stored_hash
from common.crypto.errors import KeyFileError
from common.crypto.key_lines import new_key_line
from common.secret import Secret


def test_t1_what_is_stored_depends_on_the_key() -> None:
    token = new_api_token()
    one, other = TokenKeys(new_key_line()), TokenKeys(new_key_line())
    assert len({one.stored(token), other.stored(token), stored_hash(token)}) == 3
    assert one.candidates(token) == (one.stored(token),)


def test_an_old_key_still_finds() -> None:
    old, new = new_key_line(), new_key_line()
    token = new_api_token()
    before = TokenKeys(old).stored(token)
    rotated = TokenKeys(Secret(f"{new.reveal()}\n{old.reveal()}\n"))
    assert rotated.stored(token) != before
    assert before in rotated.candidates(token)
    assert before not in TokenKeys(new).candidates(token)


def test_a_file_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "api-token-keys"
    ensure_token_keys(path)
    content = path.read_text()
    ensure_token_keys(path)
    assert path.read_text() == content
    assert path.stat().st_mode & 0o777 == 0o600
    token = new_api_token()
    assert TokenKeys.from_file(path).stored(token) == TokenKeys(Secret(content)).stored(token)


@pytest.mark.parametrize("content", ["x" * 44, "too short to be one", "é" * 44, (new_key_line().reveal() + "\n") * 17])
def test_what_is_no_key_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "api-token-keys"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="API token key") as caught:
        TokenKeys.from_file(path)
    assert content.split()[0] not in str(caught.value)
