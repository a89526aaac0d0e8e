"""The provider, once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.crypto.key_sets import generate_key_pair
from common.crypto.session_tokens import SessionTokenSigner
from tests.stack.process import Process
from tests.stack.tools import MissingToolError, tool

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The issuer of a running provider, without clients as yet."""
    if not (HERE / "node_modules" / "oidc-provider").is_dir():
        raise MissingToolError("npm's oidc-provider", "test")
    command = [tool("node"), HERE / "provider.mjs"]
    with Process("oidc-provider", command, folder=tmp_path_factory.mktemp("oidc"), json_output=True) as process:
        yield process.read_json()["issuer"]


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> SessionTokenSigner:
    """Of session tokens; the API has one."""
    folder = tmp_path_factory.mktemp("keys")
    generate_key_pair(folder / "private.json", folder / "public.json")
    return SessionTokenSigner.from_file(folder / "private.json")
