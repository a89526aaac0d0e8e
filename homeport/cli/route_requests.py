"""`homeport routes requests`: what went to a route that is inspected, and sending it again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment, size
from homeport.cli.output import cell, emit, json_option, say, show_facts, show_rows

__all__ = ["requests"]

_ASKED = "1000"
"""Requests; no process keeps more of a route unless it was told to."""


@click.group()
def requests() -> None:
    """See the last requests to a route that is inspected, and send one again.

    Each API server keeps what went through it; with several, `process` says whose memory an answer is from.
    """


@requests.command("list")
@click.argument("route")
@with_connection()
@json_option
def list_requests(route: str, connection: Connection) -> None:
    """List the last requests to ROUTE, newest first."""
    with connection.client() as client:
        page = client.ask("GET", "routes", route, "requests", query={"limit": _ASKED})
    now = time.time()
    rows = [
        (
            moment(each["at"], now),
            each["method"],
            each["target"],
            _ended(each),
            f"{each['seconds']:.3f} s",
            each["caller"],
            each["id"],
        )
        for each in page["items"]
    ]
    nothing = f"{page['process']} keeps no request to {route}"
    if not page["inspect"]:
        nothing = f"{route} is not inspected: homeport routes change {route} --inspect"
    emit(page, lambda: show_rows(("WHEN", "METHOD", "TARGET", "STATUS", "TOOK", "CALLER", "ID"), rows, nothing))


@requests.command()
@click.argument("route")
@click.argument("request")
@with_connection()
@json_option
def show(route: str, request: str, connection: Connection) -> None:
    """Show REQUEST to ROUTE and its response: heads, and the first bytes of the bodies; what is secret is `***`."""
    with connection.client() as client:
        found = client.ask("GET", "routes", route, "requests", request)
    emit(found, lambda: _show(found["request"]))


@requests.command()
@click.argument("route")
@click.argument("request")
@with_connection()
@json_option
def replay(route: str, request: str, connection: Connection) -> None:
    """Send REQUEST to ROUTE again, by the route as it is now, and show how it went.

    It does again what it did. The service sees nothing of who sent it first.
    """
    with connection.client() as client:
        found = client.ask("POST", "routes", route, "requests", request, "replay")
    say(f"sent again as {found['request']['id']}")
    emit(found, lambda: _show(found["request"]))


def _ended(request: Mapping[str, Any]) -> str:
    return f"{request['status'] or '-'}{'' if request['error'] is None else ' ' + request['error']}"


def _show(request: Mapping[str, Any]) -> None:
    facts = {
        "id": request["id"],
        "when": moment(request["at"], time.time()),
        "status": _ended(request),
        "took": f"{request['seconds']:.3f} s",
        "caller": request["caller"],
        "repeats": request["replay_of"],
        "can be sent again": "yes" if request["replayable"] else "no",
    }
    show_facts(facts)
    click.echo()
    _show_message(f"{request['method']} {request['target']}", request["request"])
    if request["response"] is not None:
        click.echo()
        _show_message(str(request["response"]["status"]), request["response"])


def _show_message(start: str, message: Mapping[str, Any]) -> None:
    click.echo(cell(start).plain)
    for name, value in message["headers"]:
        click.echo(cell(f"{name}: {value}").plain)
    body = message["body"]
    if not body["size"]:
        return
    click.echo()
    if body["text"] is not None:
        for line in body["text"].splitlines():
            click.echo(cell(line).plain)
    if body["text"] is None or body["truncated"]:
        kind = "bytes that are no text" if body["text"] is None else "in all"
        say(f"({size(body['size'])} {kind})")
