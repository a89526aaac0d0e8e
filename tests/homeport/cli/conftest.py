"""A runner of the command in this process, in an environment of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from homeport.cli.root import cli
from tests.homeport.cli.api_server import TOKEN

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with nothing of Homeport in it."""
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    """`run("sessions", "list", HOMEPORT_TEAM="x")`: arguments, and what is in the environment besides HOME."""
    clean = {name: None for name in os.environ if name.startswith(("HOMEPORT_", "XDG_"))}

    def call(*arguments: object, **environment: str) -> Result:
        env = clean | {"HOME": str(home)} | environment
        return CliRunner(env=env).invoke(cli, [str(argument) for argument in arguments], prog_name="homeport")

    return call


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return path


def json_of(text: str) -> Any:
    """The one JSON document that `text` is."""
    return json.loads(text)
