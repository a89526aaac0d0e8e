"""`homeport limits`: how much teams, tokens, routes, addresses and devices may use.

A subject is written `kind/id`: `token/tok_...`, `route/prices`, `team/home`; `default/KIND` is what the installation
lets all of a kind.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import click

from homeport.api_client import ApiClient
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import ago, parse_duration, size
from homeport.cli.output import emit, json_option, say, show_facts, show_rows

__all__ = ["limits"]

_KINDS: Final = ("team", "token", "route", "address", "device")
_NONE: Final = "none"
_SIZE: Final = re.compile(r"([0-9]{1,15})(|KiB|MiB|GiB)", re.ASCII)
_UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class _Subject(NamedTuple):
    kind: str
    name: str

    @property
    def path(self) -> tuple[str, ...]:
        """Of its limits, behind `/api`."""
        if self.kind == "default":
            return ("limits", "defaults")
        return ("limits", "teams" if self.kind == "team" else self.kind, self.name)

    def own(self, client: ApiClient) -> dict[str, Any]:
        """What is set for it."""
        found = client.ask("GET", *self.path, of_team=self._of_team)
        return dict(found[self.name] if self.kind == "default" else found["own"])

    def set(self, client: ApiClient, own: Mapping[str, Any]) -> Any:
        """Set it; what the API answers."""
        if self.kind == "default":
            defaults = client.ask("GET", *self.path, of_team=False)
            return client.ask("PUT", *self.path, body=defaults | {self.name: own}, of_team=False)[self.name]
        return client.ask("PUT", *self.path, body=own, of_team=self._of_team)

    @property
    def _of_team(self) -> bool:
        return self.kind in ("token", "route")


def _subject(_context: click.Context, _parameter: click.Parameter, text: str) -> _Subject:
    kind, slash, name = text.partition("/")
    if not slash or not name or kind not in ("token", "route", "team", "default"):
        raise click.BadParameter("write token/ID, route/NAME, team/ID or default/KIND")
    if kind == "default" and name not in _KINDS:
        raise click.BadParameter(f"a default is for one of {', '.join(_KINDS)}")
    return _Subject(kind, name)


def _or_none(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback: None for nothing given, `none` for no limit, else what `read` makes of it."""

    def callback(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Any:
        return text if text is None or text == _NONE else read(text)

    return callback


def _rate(text: str) -> dict[str, int]:
    quota, slash, window = text.partition("/")
    seconds = parse_duration(click.get_current_context(), click.Argument(["window"]), window) if slash else None
    if not re.fullmatch(r"[0-9]{1,10}", quota, re.ASCII) or not seconds:
        raise click.BadParameter("write how many in which time: 600/1m, 5/1s; or none")
    return {"quota": int(quota), "window": seconds}


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise click.BadParameter("write a number, or none")
    return int(text)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise click.BadParameter("write a number of bytes, 64KiB, 10MiB, 1GiB, or none")
    return int(match[1]) * _UNITS[match[2]]


_OPTIONS: Final = (
    ("requests", "N/TIME", _rate, "Requests through the gateway in so much time: 600/1m."),
    ("api_requests", "N/TIME", _rate, "Requests to the REST API in so much time."),
    ("streams", "N", _count, "Requests and connections under way at a time."),
    ("opens_per_second", "N", _count, "Streams to services that are newly opened a second."),
    ("bytes_per_second", "SIZE", _size, "Both ways together; what is more waits."),
    ("max_body_bytes", "SIZE", _size, "Of a request's body."),
    ("max_header_bytes", "SIZE", _size, "Of a request's head."),
)


def _values(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each limit; those that are given are passed as `given`."""

    @functools.wraps(command)
    def call(**options: Any) -> None:
        given = {name: options.pop(name) for name, *_ in _OPTIONS}
        command(given={name: value for name, value in given.items() if value is not None}, **options)

    offered: Callable[..., None] = call
    for name, metavar, read, words in reversed(_OPTIONS):
        flag = f"--{name.replace('_', '-')}"
        offered = click.option(flag, name, metavar=metavar, callback=_or_none(read), help=words)(offered)
    return offered


@click.group()
def limits() -> None:
    """List, show and set how much teams, tokens and routes may use."""


@limits.command("list")
@with_connection()
@json_option
def list_limits(connection: Connection) -> None:
    """List the limits that are set for a team, its tokens and its routes.

    The others have the installation's defaults.
    """
    with connection.client() as client:
        items = client.pages("limits")
    rows = [(f"{each['kind']}/{each['subject']}", ", ".join(_told(each["limits"]))) for each in items]
    emit({"items": items}, lambda: show_rows(("SUBJECT", "LIMITS"), rows, "only the installation's defaults hold"))


@limits.command()
@click.argument("subject", callback=_subject)
@with_connection()
@json_option
def show(subject: _Subject, connection: Connection) -> None:
    """Show the limits of SUBJECT: token/ID, route/NAME, team/ID or default/KIND."""
    with connection.client() as client:
        own = subject.own(client)
    emit(own, lambda: show_facts(dict(_facts(own)) or {"limits": "none set"}))


@limits.command("set")
@click.argument("subject", callback=_subject)
@_values
@with_connection()
@json_option
def set_limits(subject: _Subject, given: Mapping[str, Any], connection: Connection) -> None:
    """Set limits of SUBJECT: token/ID, route/NAME, team/ID or default/KIND. What is not named stays; `none` lifts one.

    In effect on every API server within a second, for the next request.
    """
    if not given:
        raise click.UsageError("name at least one limit")
    with connection.client() as client:
        own = subject.own(client)
        for name, value in given.items():
            rate = value if not isinstance(value, dict) else (own.get(name) or {}) | value
            own[name] = None if value == _NONE else rate
        done = subject.set(client, {name: value for name, value in own.items() if value is not None})
    emit(done, lambda: say(f"{subject.kind}/{subject.name}: {', '.join(_told(done)) or 'no limits of its own'}"))


def _facts(own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in own.items():
        if value is None:
            continue
        shown = str(value)
        if isinstance(value, dict):
            shown = f"{value['quota']} in {ago(value['window'])}"
            if value.get("when_away", "open") != "open":
                shown += f", {value['when_away']} while the shared counter is away"
        elif "bytes" in name:
            shown = size(value)
        yield name.replace("_", " "), shown


def _told(own: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name} {value}" for name, value in _facts(own))
