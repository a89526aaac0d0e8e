"""git through the gateway, its own smart HTTP server as the device's service."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.stage import Workshop
from tests.stack.installation import Installation
from tests.stack.tools import tool


class Git:
    """git without the user's own configuration; the token is in its environment."""

    def __init__(self, home: Path, token: str | None) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "tests",
            "GIT_AUTHOR_EMAIL": "tests@example.org",
            "GIT_COMMITTER_NAME": "tests",
            "GIT_COMMITTER_EMAIL": "tests@example.org",
        }
        if token is not None:
            self._environment |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "http.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Bearer {token}",
            }

    def __call__(self, *arguments: str | Path, folder: Path) -> str:
        result = subprocess.run(
            [tool("git"), *map(str, arguments)], cwd=folder, env=self._environment, capture_output=True, check=False
        )
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode().strip()


@pytest.fixture
def git(installation: Installation, tmp_path: Path) -> Git:
    """git that shows the token."""
    return Git(tmp_path, installation.token)


@pytest.fixture
def repository(workshop: Workshop, git: Git, tmp_path: Path) -> str:
    """The name of a repository on the device: ten commits, 5 MiB that cannot be compressed."""
    work = tmp_path / "origin"
    work.mkdir()
    git("init", "--quiet", "--initial-branch", "main", folder=work)
    for number in range(10):
        (work / f"file-{number}").write_bytes(os.urandom(512 * 1024))
        git("add", ".", folder=work)
        git("commit", "--quiet", "--message", f"commit {number}", folder=work)
    name = f"{tmp_path.name}.git"
    git("clone", "--quiet", "--bare", work, workshop.git.folder / name, folder=tmp_path)
    return name


def test_clone_gives_every_object(
    installation: Installation, workshop: Workshop, git: Git, repository: str, tmp_path: Path
) -> None:
    git("clone", "--quiet", installation.url(workshop.name, "git", f"/{repository}"), "clone", folder=tmp_path)
    clone = tmp_path / "clone"
    git("fsck", "--full", "--strict", folder=clone)
    assert git("rev-parse", "HEAD", folder=clone) == git("rev-parse", "HEAD", folder=tmp_path / "origin")
    assert git("rev-list", "--count", "HEAD", folder=clone) == "10"


def test_push_larger_than_the_post_buffer_goes_up_in_chunks(
    installation: Installation, workshop: Workshop, git: Git, repository: str, tmp_path: Path
) -> None:
    git("clone", "--quiet", installation.url(workshop.name, "git", f"/{repository}"), "clone", folder=tmp_path)
    clone = tmp_path / "clone"
    (clone / "large").write_bytes(os.urandom(5 * 2**20))
    git("add", ".", folder=clone)
    git("commit", "--quiet", "--message", "large", folder=clone)
    git("-c", "http.postBuffer=65536", "push", "--quiet", "origin", "main", folder=clone)
    bare = workshop.git.folder / repository
    git("fsck", "--full", "--strict", folder=bare)
    assert git("rev-parse", "main", folder=bare) == git("rev-parse", "HEAD", folder=clone)
