"""Which API, which gateway and which token a command works with.

    --api, --gateway     or HOMEPORT_API, HOMEPORT_GATEWAY     or from the data directory of a running `homeport up`
    --token-file         or HOMEPORT_API_TOKEN_FILE            or the administration token in that directory

The token of a data directory goes to the URLs of that directory and nowhere else: who names another API names a token
for it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from common.crypto.keyfiles import read_secret
from common.ids import is_name
from common.secret import Secret
from common.settings import load
from homeport.api_client import ApiClient
from homeport.errors import NotConfiguredError
from homeport.run_file import ADMIN_TOKEN, RUN_FILE, Run, read_run_file
from homeport.settings import ALL_SETTINGS, ClientSettings, default_data_dir

__all__ = ["Connection", "with_connection"]

R = TypeVar("R")

_DEFAULT_TEAM = "home"
_FILE = click.Path(path_type=Path)


def with_connection(*, gateway: bool = False, team: bool = True) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Gives a command the options that say where to ask, and one argument `connection` that they make.

    Args:
        gateway: offer `--gateway` as well.
        team: offer `--team`.
    """
    options = [
        click.option("--api", metavar="URL", help="Base URL of the API."),
        click.option("--token-file", type=_FILE, help="File (mode 0600) with an API token."),
        click.option("--data-dir", type=_FILE, help="Folder of a running `homeport up`, for URLs and token."),
        click.option("--config", type=_FILE, help="TOML file with settings."),
    ]
    if gateway:
        options.insert(0, click.option("--gateway", metavar="URL", help="Base URL of the gateway."))
    if team:
        options.insert(-1, click.option("--team", metavar="NAME", help="Team that is meant."))

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def call(
            *, api: str | None, token_file: Path | None, data_dir: Path | None, config: Path | None, **rest: Any
        ) -> R:
            own = {name: rest.pop(name) for name, offered in (("gateway", gateway), ("team", team)) if offered}
            connection = Connection.of(api=api, token_file=token_file, data_dir=data_dir, config=config, **own)
            return command(connection=connection, **rest)

        for option in reversed(options):
            call = option(call)
        return call

    return decorate


class Connection:
    """Settings made into URLs, token and team; the data directory is read only when something is missing.

    Args:
        settings: what was given.
        data_dir: where a running `homeport up` writes what was not.
    """

    def __init__(self, settings: ClientSettings, data_dir: Path) -> None:
        self._settings = settings
        self.data_dir = data_dir
        self._read: Run | None = None

    @classmethod
    def of(
        cls,
        *,
        api: str | None = None,
        gateway: str | None = None,
        token_file: Path | None = None,
        data_dir: Path | None = None,
        team: str | None = None,
        config: Path | None = None,
    ) -> Connection:
        """From the flags of a command, the environment and the TOML file.

        Raises:
            SettingsError: one of them is wrong.
        """
        flags = {"api": api, "gateway": gateway, "api_token_file": token_file, "data_dir": data_dir, "team": team}
        settings = load(ClientSettings, config=config, environ=os.environ, overrides=flags, known=ALL_SETTINGS)
        return cls(settings, settings.data_dir or default_data_dir(os.environ))

    @property
    def api(self) -> str:
        """Base URL of the API.

        Raises:
            NotConfiguredError: as every property here, when nothing says.
        """
        return self._settings.api or self.run.api

    @property
    def gateway(self) -> str:
        """Base URL of the gateway."""
        return self._settings.gateway or self.run.gateway

    @property
    def team(self) -> str:
        """Name of the team."""
        team = self._settings.team
        if team is None:
            team = _DEFAULT_TEAM if self._settings.api else self.run.team
        if not is_name(team):
            raise NotConfiguredError("a team's name is lower-case letters, digits and single hyphens, at most 40")
        return team

    def token_for(self, url: str) -> Secret:
        """The API token to send to `url`, which is one of the properties above.

        Raises:
            NotConfiguredError: there is none for it.
            KeyFileError: its file cannot be read or trusted.
        """
        if self._settings.api_token_file is not None:
            return read_secret(self._settings.api_token_file)
        run = self.run
        if url not in (run.api, run.gateway):
            raise NotConfiguredError(
                f"no token for {url}: give --token-file; the token in {self.data_dir} is for {run.api} alone"
            )
        return read_secret(self.data_dir / ADMIN_TOKEN)

    def client(self) -> ApiClient:
        """The API, with the token for it.

        Raises:
            NotConfiguredError, KeyFileError: as the properties above say.
        """
        return ApiClient(self.api, self.token_for(self.api), self.team)

    @property
    def names_api(self) -> bool:
        """Whether an API was named, so that the data directory does not decide."""
        return self._settings.api is not None

    def is_up(self) -> bool:
        """Whether a `homeport up` says that it runs with the data directory."""
        return (self.data_dir / RUN_FILE).exists()

    @property
    def run(self) -> Run:
        """What runs with the data directory."""
        if self._read is None:
            self._read = read_run_file(self.data_dir)
        return self._read
