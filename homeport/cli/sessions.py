"""`homeport sessions`: who is connected."""

from __future__ import annotations

import time

import click
from rich.table import Table

from common.ids import SessionId, is_session_id
from common.sessions.interfaces import Summary
from homeport.api_client import ApiClient
from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import ago, size
from homeport.cli.output import cell, emit, json_option, say, show_table
from homeport.errors import ApiRefusedError

__all__ = ["sessions"]


@click.group()
def sessions() -> None:
    """List, show and close the live sessions of devices."""


@sessions.command("list")
@with_connection()
@json_option
def list_sessions(connection: Connection) -> None:
    """List the live sessions of a team."""
    with connection.client() as client:
        items = list(client.sessions())
    emit({"items": items}, lambda: _show_list(items, connection.team))


@sessions.command("show")
@click.argument("session")
@with_connection()
@json_option
def show_session(
    session: str,
    connection: Connection,
) -> None:
    """Show a live session. SESSION is its id (ses_...), or the id or name of its device."""
    with connection.client() as client:
        summary = _find(client, session)
    emit(summary, lambda: _show_one(summary))


@sessions.command("close")
@click.argument("session")
@with_connection()
@json_option
def close_session(
    session: str,
    connection: Connection,
) -> None:
    """Close a live session, and reset its streams. SESSION is its id (ses_...), or the id or name of its device.

    The device may dial in again at once.
    """
    with connection.client() as client:
        summary = _find(client, session)
        # With its epoch: if the device has dialled in again meanwhile, the new session is not the one that was meant.
        client.close_session(summary.id, epoch=summary.epoch)
    emit({"closed": summary.id}, lambda: say(f"closed {summary.id} of device {summary.device_name}"))


def _find(client: ApiClient, text: str) -> Summary:
    if is_session_id(text):
        return client.session(SessionId(text))
    for summary in client.sessions():
        if text in (summary.device, summary.device_name):
            return summary
    raise ApiRefusedError(
        f"no live session has the id {text!r}, nor a device of that id or name",
        http_status=404,
        reason="no_such_session",
    )


def _show_list(items: list[Summary], team: str) -> None:
    if not items:
        say(f"no device of team {team} is connected")
        return
    now = time.time()
    table = Table(box=None, pad_edge=False)
    for heading in ("DEVICE", "STATE", "FOR", "RTT", "STREAMS", "IN", "OUT", "SERVICES", "SESSION"):
        table.add_column(heading, no_wrap=True)
    for item in items:
        table.add_row(
            cell(item.device_name),
            cell(item.state.value),
            ago(now - item.connected_at),
            "" if item.rtt_ms is None else f"{item.rtt_ms:.1f} ms",
            str(item.streams),
            size(item.bytes_in),
            size(item.bytes_out),
            cell(" ".join(f"{name}" if health == "healthy" else f"{name}:{health}" for name, health in _sorted(item))),
            cell(item.id),
        )
    show_table(table)


def _show_one(item: Summary) -> None:
    now = time.time()
    rows = {
        "session": item.id,
        "device": item.device if item.device == item.device_name else f"{item.device_name} ({item.device})",
        "team": item.team,
        "state": item.state.value,
        "connected": f"{ago(now - item.connected_at)} ago, from {item.remote_address}",
        "heard of": f"{ago(now - item.last_heartbeat)} ago",
        "round trip": "not measured yet" if item.rtt_ms is None else f"{item.rtt_ms:.1f} ms",
        "streams": item.streams,
        "from device": size(item.bytes_in),
        "to device": size(item.bytes_out),
        "services": ", ".join(f"{name} ({health})" for name, health in _sorted(item)) or "not told",
        "protocol": item.subprotocol,
        "agent": item.agent_version or "not told",
        "relay": item.relay,
        "epoch": item.epoch,
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in rows.items():
        table.add_row(name, cell(value))
    show_table(table)


def _sorted(item: Summary) -> list[tuple[str, str]]:
    return sorted(item.services.items())
