"""What the command line itself is told, and the list of everything that any process of Homeport may be told.

`homeport up` and the commands that ask the API are processes like the others: their settings come from defaults, the
TOML file, the environment and flags, in that order, and an unknown name is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from api_server.settings import ApiSettings
from common.logging import Format, Level
from common.settings import Port, Seconds, Settings
from edge_agent.settings import AgentSettings
from remote_proxy.settings import RelaySettings

__all__ = ["ALL_SETTINGS", "ClientSettings", "UpSettings", "default_data_dir"]


class ClientSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a command that asks the API, or goes through the gateway, is told."""

    section: ClassVar[str] = "client"

    api: Annotated[
        str | None, Meta(description="Base URL of the API; by default that of the `homeport up` in data_dir.")
    ] = None
    gateway: Annotated[
        str | None, Meta(description="Base URL of the gateway; by default that of the `homeport up` in data_dir.")
    ] = None
    api_token_file: Annotated[
        Path | None,
        Meta(description="File (mode 0600) with an API token; by default the administration token in data_dir."),
    ] = None
    data_dir: Annotated[
        Path | None, Meta(description="Folder of a running `homeport up`; by default $XDG_DATA_HOME/homeport.")
    ] = None
    team: Annotated[
        str | None, Meta(description="Team that is meant; by default that of the `homeport up` in data_dir, or home.")
    ] = None


class UpSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `homeport up` is told. Ports that are not given here are those of the relay's and the API's settings."""

    section: ClassVar[str] = "up"

    data_dir: Annotated[
        Path | None, Meta(description="Folder for keys, tokens and state; by default $XDG_DATA_HOME/homeport.")
    ] = None
    api_port: Annotated[Port | None, Meta(description="Port of the API; 0 for any free one.")] = None
    gateway_port: Annotated[Port | None, Meta(description="Port of the gateway; 0 for any free one.")] = None
    tunnel_port: Annotated[Port | None, Meta(description="Port that devices dial; 0 for any free one.")] = None
    internal_port: Annotated[
        Port | None, Meta(description="Port on which the relay talks to the API; 0 for any free one.")
    ] = None
    dev_idp_port: Annotated[
        Port | None,
        Meta(
            description="Port of the sign-in for development, which runs while oidc_issuer is not set; by default any "
            "free one, and from then on the same."
        ),
    ] = None
    demo: Annotated[bool, Meta(description="Run a demo device with a demo service.")] = True
    drain_grace: Annotated[
        Seconds, Meta(description="How long streams may go on after SIGTERM before they are cut.")
    ] = 10.0
    log_format: Annotated[Format, Meta(description="Form of the processes' log lines.")] = "console"
    log_level: Annotated[Level, Meta(description="Lowest level that is logged.")] = "info"


ALL_SETTINGS: tuple[type[Settings], ...] = (RelaySettings, ApiSettings, AgentSettings, UpSettings, ClientSettings)
"""Of every process: their names may stand in one file and one environment."""


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where state is kept when nobody says otherwise (XDG Base Directory Specification)."""
    base = environ.get("XDG_DATA_HOME", "")
    # "If an implementation encounters a relative path in any of these variables it should [...] ignore it."
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    return root / "homeport"
