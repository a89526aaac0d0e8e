"""Exit codes, help, and where errors go, for every command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from homeport.cli.root import cli
from tests.homeport.cli.conftest import Run, json_of


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command that can be run, with its words."""
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found.append(((*path, name), command))
    return found


ALL = commands(cli)


NO_SECRETS = {
    ("agent", "pair"): {"--token"},  # spent as it is shown
    ("api",): {"--objectstore-access-key"},  # the name of one, as a user name is
    ("routes", "change"): {"--key"},  # as well: that of a realm's secret
    ("routes", "create"): {"--key"},
}


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_every_command_explains_itself_and_offers_json(
    run: Run, words: tuple[str, ...], command: click.Command
) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    # A secret in an argument is seen by everybody on the machine: there is a file for each.
    secrets = {option for option in options if option.endswith(("-token", "-key", "-secret", "-password"))}
    assert secrets <= NO_SECRETS.get(words, set())
    assert words != ("agent", "pair") or "--token-file" in options


def test_the_commands_of_the_contract_are_there() -> None:
    assert {" ".join(words) for words, _ in ALL} >= {
        *("up", "relay", "api", "agent", "sessions list", "sessions show", "sessions close"),
        *("forward", "config check", "doctor", "version", "devices list", "devices token", "agent pair", "agent login"),
        *("pairing-tokens create", "pairing-tokens list", "teams list"),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["sessions"],
        ["sessions", "show"],
        ["sessions", "list", "--no-such-option"],
        ["forward", "home/demo"],
        ["forward", "home/demo/ssh", "--listen", "127.0.0.1:ssh"],
        ["forward", "home/demo/ssh", "--listen", "99999"],
        ["devices", "token", "demo", "--expires-in", "soon"],
        ["relay", "--tunnel-port", "ssh"],
        ["relay"],
        ["up", "--api-port", "70000"],
        ["config", "check", "no-such-process"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_a_wrong_setting_is_named_without_its_value(run: Run) -> None:
    result = run("sessions", "list", HOMEPORT_TOKN="hp_secret", HOMEPORT_TEAMS="hp_secret")
    assert result.exit_code == 2
    assert "HOMEPORT_TEAMS (environment): no such setting" in result.stderr
    assert "HOMEPORT_TOKN (environment): no such setting" in result.stderr
    assert "hp_secret" not in result.output


def test_failure_is_1_and_says_what_to_do(run: Run, home: Path) -> None:
    result = run("sessions", "list")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"no `homeport up` runs with the data directory {home}/.local/share/homeport: start it" in result.stderr
    assert result.stderr.rstrip().endswith("[not_configured]")


def test_failure_as_json_is_a_problem(run: Run) -> None:
    for arguments in (("--json",), ("list", "--json"), ("list", "--data-dir", "/nowhere", "--json")):
        result = run("sessions", *arguments)
        if arguments[0] == "list":
            assert result.exit_code == 1
            assert json_of(result.stderr)["code"] == "not_configured"
            assert result.stdout == ""
        else:
            assert result.exit_code == 2


def test_version(run: Run) -> None:
    assert run("version").stdout.startswith("homeport ")
    assert json_of(run("version", "--json").stdout)["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "homeport", "version", "--json"], capture_output=True, check=True)
    assert b'"homeport"' in done.stdout


def test_a_process_is_started_without_what_only_others_need() -> None:
    """The relay must not load the HTTP client, nor the agent the HTTP server: they run on small machines."""
    program = "import sys; from homeport.cli.root import cli; cli.get_command(None, 'agent'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    loaded = set(done.stdout.split())
    assert "edge_agent.settings" in loaded
    assert loaded.isdisjoint({"httpx", "aiohttp", "uvloop", "sqlalchemy"})
