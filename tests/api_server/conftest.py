"""Fixtures of the tests of the API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.crypto.key_sets import generate_key_pair
from common.crypto.session_tokens import SessionTokenSigner, SessionTokenVerifier


@pytest.fixture(scope="session")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private and a public key file."""
    folder = tmp_path_factory.mktemp("keys")
    generate_key_pair(folder / "private.json", folder / "public.json")
    return folder / "private.json", folder / "public.json"


@pytest.fixture
def signer(key_files: tuple[Path, Path]) -> SessionTokenSigner:
    return SessionTokenSigner.from_file(key_files[0])


@pytest.fixture
def verifier(key_files: tuple[Path, Path]) -> SessionTokenVerifier:
    return SessionTokenVerifier.from_file(key_files[1])
