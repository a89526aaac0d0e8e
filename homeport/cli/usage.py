"""`homeport usage`: what went through the gateway, whose it was, and how it ended."""

from __future__ import annotations

import time

import click

from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import parse_duration, size
from homeport.cli.output import emit, json_option, show_rows

__all__ = ["usage"]

_HEADINGS = {
    "hour": "HOUR",
    "day": "DAY",
    "token": "TOKEN",
    "route": "ROUTE",
    "status_class": "CLASS",
    "status": "STATUS",
}


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip().replace("-", "_") for name in text.split(",")]
    if not names or len(set(names)) < len(names) or not set(names) <= set(_HEADINGS):
        raise click.BadParameter(f"it is one or more of {', '.join(_HEADINGS)}, with commas")
    return names


@click.command()
@click.option(
    "--by",
    callback=_names,
    default="hour",
    show_default=True,
    metavar="NAMES",
    help="What to show apart: hour, day, token, route, status_class, status; with commas.",
)
@click.option(
    "--from",
    "since",
    metavar="TIME",
    callback=parse_duration,
    default="24h",
    show_default=True,
    help="How long ago it begins: 90m, 24h, 7d.",
)
@click.option("--to", "until", metavar="TIME", callback=parse_duration, help="How long ago it ends; by default now.")
@click.option("--token-id", "token", metavar="ID", help="Only that of a token or person.")
@click.option("--route", metavar="ID", help="Only that of a route, or of DEVICE/SERVICE.")
@click.option("--status", type=click.IntRange(0, 599), help="Only that with this status; 0 for no response.")
@with_connection()
@json_option
def usage(
    by: list[str],
    since: int,
    until: int | None,
    token: str | None,
    route: str | None,
    status: int | None,
    connection: Connection,
) -> None:
    """Show what was used of a team's services, summed up by the hour or otherwise."""
    now = time.time()
    query = {"by": ",".join(by), "from": f"{now - since:.0f}"}
    if until is not None:
        query["to"] = f"{now - until:.0f}"
    for name, value in (("token", token), ("route", route), ("status", status)):
        if value is not None:
            query[name] = str(value)
    with connection.client() as client:
        items = client.pages("usage", query=query)
    rows = [
        (
            *(_shown(name, each[name]) for name in by),
            each["requests"],
            size(each["bytes_in"]),
            size(each["bytes_out"]),
        )
        for each in items
    ]
    headings = (*(_HEADINGS[name] for name in by), "REQUESTS", "IN", "OUT")
    emit({"items": items}, lambda: show_rows(headings, rows, "nothing was used"))


def _shown(name: str, value: object) -> object:
    if name in ("hour", "day"):
        form = "%Y-%m-%d %H:00Z" if name == "hour" else "%Y-%m-%d"
        return time.strftime(form, time.gmtime(float(str(value))))
    if name == "status_class":
        return f"{value}xx" if value else "none"
    return value if value != "" else "-"
