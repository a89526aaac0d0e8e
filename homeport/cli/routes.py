"""`homeport routes`: services and backends under paths of the gateway. A route is named by its id or its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from homeport.api_client import NULL
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment
from homeport.cli.output import emit, json_option, say, show_facts, show_rows
from homeport.cli.route_requests import requests

__all__ = ["routes"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--device", metavar="DEVICE", help="Lead to a service of this device."),
    click.option("--label", metavar="LABEL", help="Lead to a service of the devices that have this label, in turn."),
    click.option("--service", metavar="NAME", help="Of the device or devices."),
    click.option("--url", metavar="URL", help="Lead to a backend: https://host[:port][/path]."),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="For scopes of tokens; may be repeated."),
    click.option("--no-tags", is_flag=True, help="It has none."),
    click.option(
        "--auth",
        type=click.Choice(["none", "bearer", "api-key", "basic"]),
        help="How the service or backend is shown who asks.",
    ),
    click.option("--secret-name", "secret", metavar="NAME", help="The upstream secret that is shown."),
    click.option("--realm", metavar="REALM", help="With bearer: show the token of this realm, in place of a secret."),
    click.option("--key", metavar="KEY", help="With --realm: of this secret in it."),
    click.option("--header", metavar="NAME", help="With api-key: the header; X-API-Key by default."),
    click.option("--username", metavar="NAME", help="With basic; without it the secret is user:password."),
    click.option("--strip-prefix/--keep-prefix", default=None, help="What the service sees; stripped by default."),
    click.option("--health-path", metavar="PATH", help="With --label: what is asked to find out who is well."),
    click.option("--health-interval", type=click.FloatRange(1, 3600), metavar="SECONDS", help="10 by default."),
    click.option("--health-threshold", type=click.IntRange(1, 20), metavar="N", help="Answers in a row; 2 by default."),
    click.option("--no-health", is_flag=True, help="Nobody is asked; what the relay and agents say counts alone."),
    click.option("--cors-origin", "origins", multiple=True, metavar="ORIGIN", help="Whose pages may read it."),
    click.option("--no-cors", is_flag=True, help="What the service says about that stands."),
    click.option("--inspect/--no-inspect", default=None, help="Keep its last requests, for `routes requests`."),
)


_OFF = {
    "no_tags": {"tags": "--tag"},
    "no_health": {f"health_{name}": f"--health-{name}" for name in ("path", "interval", "threshold")},
    "no_cors": {"origins": "--cors-origin"},
}
"""What takes something away, and what sets it."""


def _with_options(command: F) -> F:
    """What a route is made of."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def routes() -> None:
    """Publish services and backends under paths of the gateway."""


routes.add_command(requests)


@routes.command("list")
@with_connection()
@json_option
def list_routes(connection: Connection) -> None:
    """List the routes of a team."""
    with connection.client() as client:
        items = client.pages("routes")
    rows = [(each["name"], each["path"], _leads(each), ", ".join(each["tags"]), each["id"]) for each in items]
    emit(
        {"items": items},
        lambda: show_rows(("NAME", "PATH", "LEADS TO", "TAGS", "ID"), rows, f"team {connection.team} has no route"),
    )


@routes.command()
@click.argument("route")
@with_connection()
@json_option
def show(route: str, connection: Connection) -> None:
    """Show ROUTE."""
    with connection.client() as client:
        found = client.ask("GET", "routes", route)
    now = time.time()
    auth = found["auth"]
    facts = {
        "name": found["name"],
        "id": found["id"],
        "team": found["team"],
        "path": found["path"],
        "leads to": _leads(found),
        "prefix": "stripped" if found["strip_prefix"] else "kept",
        "tags": ", ".join(found["tags"]) or "-",
        "auth": _shows(auth),
        "health": _asks(found["health"]),
        "cors": ", ".join(found["cors"]["origins"]) if found["cors"] else "as the service says",
        "inspected": "yes" if found["inspect"] else "no",
        "version": found["version"],
        "created": f"{moment(found['created_at'], now)} by {found['created_by']}",
        "changed": moment(found["updated_at"], now),
    }
    emit(found, lambda: show_facts(facts))


@routes.command()
@click.argument("name")
@click.argument("path")
@_with_options
@with_connection(gateway=True)
@json_option
def create(name: str, path: str, connection: Connection, **given: Any) -> None:
    """Publish something as NAME under PATH: `homeport routes create cameras /cameras --device cam --service web`."""
    body = {"team": connection.team, "name": name, "path": path, **_body(given)}
    if "target" not in body:
        raise click.UsageError("say where it leads: --device and --service, --label and --service, or --url")
    with connection.client() as client:
        made = client.ask("POST", "routes", body=body, of_team=False)
    emit(made, lambda: say(f"{name} is published at {connection.gateway.rstrip('/')}{made['path']}"))


@routes.command()
@click.argument("route")
@click.option("--name", metavar="NAME", help="Call it so from now on.")
@click.option("--path", metavar="PATH", help="Publish it there from now on.")
@click.option("--version", type=int, metavar="N", help="Change it only if it has this version.")
@_with_options
@with_connection()
@json_option
def change(
    route: str, name: str | None, path: str | None, version: int | None, connection: Connection, **given: Any
) -> None:
    """Change ROUTE, all that is given at once; what is not stays."""
    body = {"name": name, "path": path, "version": version, **_body(given)}
    with connection.client() as client:
        changed = client.ask("PATCH", "routes", route, body=body)
    emit(changed, lambda: say(f"{changed['name']} has version {changed['version']}"))


@routes.command()
@click.argument("route")
@click.option("--version", type=int, metavar="N", help="Delete it only if it has this version.")
@with_connection()
@json_option
def delete(route: str, version: int | None, connection: Connection) -> None:
    """Delete ROUTE."""
    with connection.client() as client:
        client.ask("DELETE", "routes", route, query=None if version is None else {"version": str(version)})
    emit({"deleted": route}, lambda: say(f"{route} is deleted"))


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """The options of `_OPTIONS` as the API takes them."""
    body: dict[str, Any] = {}
    device, label, service, url = (given[name] for name in ("device", "label", "service", "url"))
    to_device = any(each is not None for each in (device, label, service))
    if url is not None:
        if to_device:
            raise click.UsageError("--url leads to a backend; --device, --label and --service to a device")
        body["target"] = {"kind": "url", "url": url}
    elif to_device:
        which = {"device": device, "label": label}
        body["target"] = {"kind": "device", "service": service or "web"} | {k: v for k, v in which.items() if v}
    _check_off(given)
    if given["tags"] or given["no_tags"]:
        body["tags"] = list(given["tags"])
    named = ("secret", "realm", "key", "header", "username")
    shown = {name: given[name] for name in named if given[name] is not None}
    if given["auth"] is not None:
        body["auth"] = {"kind": given["auth"], **shown}
    elif shown:
        raise click.UsageError("--secret-name, --realm, --key, --header and --username go with --auth")
    if given["strip_prefix"] is not None:
        body["strip_prefix"] = given["strip_prefix"]
    health = {name: given[f"health_{name}"] for name in ("path", "interval", "threshold")}
    health = {name: value for name, value in health.items() if value is not None}
    if health or given["no_health"]:
        body["health"] = health or NULL
    if given["origins"] or given["no_cors"]:
        body["cors"] = {"origins": list(given["origins"])} if given["origins"] else NULL
    if given["inspect"] is not None:
        body["inspect"] = given["inspect"]
    return body


def _check_off(given: dict[str, Any]) -> None:
    """Whether nothing is set and taken away at the same time.

    Raises:
        UsageError: something is.
    """
    for off, options in _OFF.items():
        for name, option in options.items():
            if given[off] and given[name] not in (None, ()):
                raise click.UsageError(f"--{off.replace('_', '-')} and {option} exclude each other")


def _shows(auth: Any) -> str:
    if auth["kind"] == "none":
        return "none"
    if "realm" in auth:
        return f"{auth['kind']}, with the token of {auth['realm']}/{auth['key']}"
    return f"{auth['kind']}, with the secret {auth['secret']}"


def _asks(health: Any) -> str:
    if health is None:
        return "nobody is asked"
    return f"GET {health['path']} every {health['interval']:g} s, {health['threshold']} answers in a row"


def _leads(route: Any) -> str:
    target = route["target"]
    if target["kind"] == "url":
        return str(target["url"])
    if "label" in target:
        return f"devices labelled {target['label']}: {target['service']}"
    return f"{target['device']}: {target['service']}"
