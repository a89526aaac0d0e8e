"""One installation for all tests here, and the devices on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import stage
from tests.stack.installation import Installation, homeport_up


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`homeport up`, with its demo device."""
    with homeport_up(tmp_path_factory.mktemp("homeport")) as running:
        yield running


@pytest.fixture(scope="session")
def workshop(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Workshop]:
    """A device of ours with other people's servers."""
    with stage.workshop(installation, tmp_path_factory.mktemp("workshop")) as running:
        yield running


@pytest.fixture(scope="session")
def go_http(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.GoDevice]:
    """A third-party device that serves HTTP."""
    with stage.go_device(installation, tmp_path_factory.mktemp("go-http"), "gopher", "web", "http") as running:
        yield running


@pytest.fixture(scope="session")
def go_raw(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.GoDevice]:
    """A third-party device that speaks a protocol of its own."""
    with stage.go_device(installation, tmp_path_factory.mktemp("go-raw"), "gopher-raw", "raw", "raw") as running:
        yield running
