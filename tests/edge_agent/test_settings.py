"""The agent's settings, as the command line and the environment give them; and the codes of its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import SettingsError, load
from common.wire.messages import OpenRefusal
from edge_agent import errors
from edge_agent.settings import AgentSettings, default_agent_dir

MINIMAL = {"relay": "wss://relay.example", "token_file": "/run/token", "services": ["web=http://127.0.0.1:8000"]}


def test_flags_are_enough() -> None:
    settings = load(AgentSettings, config=None, environ={}, overrides=MINIMAL)
    assert settings.token_file == Path("/run/token")
    assert settings.services == ("web=http://127.0.0.1:8000",)
    assert settings.drain_grace == 30


def test_the_environment_lists_services_with_their_options() -> None:
    environ = {
        "HOMEPORT_RELAY": "wss://relay.example",
        "HOMEPORT_DATA_DIR": "/var/lib/homeport",
        "HOMEPORT_SERVICES": "web=http://127.0.0.1:8000?health=/healthz&connect_timeout=2, ssh=tcp://127.0.0.1:22",
        "HOMEPORT_HEALTH_INTERVAL": "1m",
    }
    settings = load(AgentSettings, config=None, environ=environ, overrides={})
    assert settings.services == (
        "web=http://127.0.0.1:8000?health=/healthz&connect_timeout=2",
        "ssh=tcp://127.0.0.1:22",
    )
    assert settings.health_interval == 60
    assert settings.folder == Path("/var/lib/homeport")


def test_the_agent_has_a_folder_of_its_own() -> None:
    assert default_agent_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/homeport-agent")
    assert default_agent_dir({"XDG_DATA_HOME": "data"}) == Path.home() / ".local/share/homeport-agent"


def test_a_file_gives_them_too(tmp_path: Path) -> None:
    path = tmp_path / "homeport.toml"
    path.write_text(
        '[agent]\nrelay = "wss://relay.example"\ndata_dir = "/d"\nservices = ["a=tcp://127.0.0.1:1"]\nmax_streams = 7\n'
    )
    settings = load(AgentSettings, config=path, environ={}, overrides={})
    assert (settings.services, settings.max_streams) == (("a=tcp://127.0.0.1:1",), 7)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"services": []}, "at least one"),
        ({"retry_base": 10, "retry_maximum": 5}, "retry_maximum"),
        ({"retry_base": 0}, "retry-base"),
        ({"health_interval": 0}, "health-interval"),
        ({"max_streams": 0}, "max-streams"),
    ],
)
def test_what_cannot_be_is_said(overrides: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(AgentSettings, config=None, environ={}, overrides=MINIMAL | overrides)


def test_every_refusal_has_a_code_that_the_relay_knows() -> None:
    refusals = [error for error in errors.TargetError.__subclasses__() if error is not errors.UnhealthyError]
    assert {error.code for error in refusals} == set(OpenRefusal) - {OpenRefusal.FAILED}
