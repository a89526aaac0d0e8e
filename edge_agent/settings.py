"""The settings of the agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from common.logging import Format, Level
from common.settings import Bytes, Seconds, Settings

__all__ = ["AgentSettings", "default_agent_dir"]

_Interval = Annotated[float, Meta(ge=0.01, le=86400, extra={"unit": "seconds"})]
"""A time that repeats, or that is drawn from: zero would mean a busy loop."""


class AgentSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `homeport agent` is told."""

    section: ClassVar[str] = "agent"

    relay: Annotated[
        str | None,
        Meta(
            description="URL of the relay's tunnel port, such as wss://relay.example/tunnel; nothing but an address. "
            "A paired device knows it."
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        Meta(
            description="Folder of the agent's own state: what `homeport agent pair` has got for this device, or a "
            "file session-token. By default $XDG_DATA_HOME/homeport-agent."
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Meta(
            description="File of mode 0600 that holds the session token, if not in data_dir; read again at each dial."
        ),
    ] = None
    services: Annotated[
        tuple[str, ...],
        Meta(
            description="What may be reached, each NAME=URL: web=http://127.0.0.1:8000, ssh=tcp://127.0.0.1:22, "
            "app=unix:///run/app.sock, api=http+unix:///run/api.sock; options follow a question mark: "
            "health=off|tcp|/path, connect_timeout=SECONDS."
        ),
    ]
    ca_file: Annotated[
        Path | None,
        Meta(description="Certificates (PEM) to trust for the relay, instead of those of the system."),
    ] = None
    allow_plaintext: Annotated[
        bool, Meta(description="Accept a ws:// relay on another machine, which sends the session token unencrypted.")
    ] = False
    connect_timeout: Annotated[Seconds, Meta(description="Time for one dial: name, proxy, TCP, TLS and handshake.")] = (
        20.0
    )
    retry_base: Annotated[
        _Interval,
        Meta(description="The first retry comes within this time; each further one within twice the last."),
    ] = 1.0
    retry_maximum: Annotated[_Interval, Meta(description="The longest that retries are apart.")] = 60.0
    drain_grace: Annotated[
        Seconds, Meta(description="How long streams may go on after the agent was asked to stop.")
    ] = 30.0
    max_streams: Annotated[int, Meta(ge=1, le=65536, description="Streams at a time, over all services.")] = 1024
    memory_budget: Annotated[Bytes, Meta(description="Memory that receive windows may grow into.")] = 64 * 1024 * 1024
    health_interval: Annotated[_Interval, Meta(description="Time between two checks of a service.")] = 10.0
    health_timeout: Annotated[_Interval, Meta(description="Time for a service to answer a check.")] = 5.0
    health_fall: Annotated[
        int, Meta(ge=1, le=100, description="Failed checks in a row that make a healthy service unhealthy.")
    ] = 2
    health_rise: Annotated[
        int, Meta(ge=1, le=100, description="Good checks in a row that make an unhealthy service healthy.")
    ] = 1
    ready_file: Annotated[
        Path | None,
        Meta(
            description="Written when the agent is connected, updated when it is not; JSON. Removed at the end, unless "
            "an agent that was started later has the same file."
        ),
    ] = None
    log_level: Annotated[Level, Meta(description="The lowest level that is logged.")] = "info"
    log_format: Annotated[Format, Meta(description="json, one object a line, for machines; console, for people.")] = (
        "json"
    )

    def __post_init__(self) -> None:
        if not self.services:
            raise ValueError("services: an agent without services has nothing to do; give at least one")
        if self.retry_maximum < self.retry_base:
            raise ValueError("retry_maximum must not be smaller than retry_base")

    @property
    def folder(self) -> Path:
        """Where the agent's own state is."""
        return self.data_dir if self.data_dir is not None else default_agent_dir(os.environ)


def default_agent_dir(environ: Mapping[str, str]) -> Path:
    """Where an agent's state is kept when nobody says otherwise (XDG Base Directory Specification)."""
    base = environ.get("XDG_DATA_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    return root / "homeport-agent"
