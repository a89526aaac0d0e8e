"""Connections to backends are tested on the loop that they run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stack.certificates import Certificate, make_certificate


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder: Path = tmp_path_factory.mktemp("backend-certificate")
    return make_certificate(folder)
