"""`homeport teams`: teams, their members, and invitations."""

from __future__ import annotations

import time

import click

from homeport.cli.connection import Connection, with_connection
from homeport.cli.durations import moment, parse_duration
from homeport.cli.output import emit, json_option, say, show_rows

__all__ = ["teams"]

_ROLES = click.Choice(["ADMIN", "MANAGER", "DEVELOPER", "VIEWER"], case_sensitive=False)


@click.group()
def teams() -> None:
    """List, make and change teams; look after their members."""


@teams.command("list")
@with_connection(team=False)
@json_option
def list_teams(connection: Connection) -> None:
    """List the teams that the token belongs to."""
    with connection.client() as client:
        items = client.pages("teams", of_team=False)
    rows = [(each["id"], each["name"], each["members"], each["description"]) for each in items]
    emit({"items": items}, lambda: show_rows(("ID", "NAME", "MEMBERS", "DESCRIPTION"), rows, "no team"))


@teams.command()
@click.argument("team_id")
@click.option("--admin", required=True, metavar="USER", help="Id of the user who becomes its ADMIN (usr_...).")
@click.option("--name", help="For people; TEAM_ID when left out.")
@click.option("--description", default="", help="For people.")
@with_connection(team=False)
@json_option
def create(team_id: str, admin: str, name: str | None, description: str, connection: Connection) -> None:
    """Make the team TEAM_ID: lower-case letters, digits, single hyphens. The id never changes."""
    with connection.client() as client:
        body = {"id": team_id, "name": name, "description": description, "admin": admin}
        made = client.ask("POST", "teams", body=body, of_team=False)
    emit(made, lambda: say(f"made the team {team_id}"))


@teams.command()
@click.argument("team_id")
@click.option("--name", help="For people.")
@click.option("--description", help="For people.")
@with_connection(team=False)
@json_option
def edit(team_id: str, name: str | None, description: str | None, connection: Connection) -> None:
    """Change name or description of TEAM_ID."""
    with connection.client() as client:
        changed = client.ask("PATCH", "teams", team_id, body={"name": name, "description": description}, of_team=False)
    emit(changed, lambda: say(f"changed the team {team_id}"))


@teams.command()
@click.argument("team_id")
@with_connection(team=False)
@json_option
def delete(team_id: str, connection: Connection) -> None:
    """Delete TEAM_ID, which must be empty. Its id is never given out again."""
    with connection.client() as client:
        client.ask("DELETE", "teams", team_id, of_team=False)
    emit({"deleted": team_id}, lambda: say(f"deleted the team {team_id}"))


@teams.command()
@with_connection()
@json_option
def members(connection: Connection) -> None:
    """List the members of a team."""
    with connection.client() as client:
        items = client.pages("teams", connection.team, "members", of_team=False)
    now = time.time()
    rows = [(each["name"], each["email"], each["role"], moment(each["since"], now), each["user"]) for each in items]
    headings = ("NAME", "E-MAIL", "ROLE", "SINCE", "USER")
    emit({"items": items}, lambda: show_rows(headings, rows, f"team {connection.team} has no member"))


@teams.command("set-role")
@click.argument("user")
@click.argument("role", type=_ROLES)
@with_connection()
@json_option
def set_role(user: str, role: str, connection: Connection) -> None:
    """Make USER (usr_...) a member with ROLE, or change a member's role."""
    with connection.client() as client:
        path = ("teams", connection.team, "members", user)
        changed = client.ask("PUT", *path, body={"role": role.upper()}, of_team=False)
    emit(changed, lambda: say(f"{user} is {role.upper()} of {connection.team}"))


@teams.command("remove-member")
@click.argument("user")
@with_connection()
@json_option
def remove_member(user: str, connection: Connection) -> None:
    """Remove USER (usr_...) from a team."""
    with connection.client() as client:
        client.ask("DELETE", "teams", connection.team, "members", user, of_team=False)
    emit({"removed": user}, lambda: say(f"{user} is no member of {connection.team} any more"))


@teams.command()
@click.argument("email")
@click.argument("role", type=_ROLES)
@click.option("--expires-in", metavar="TIME", callback=parse_duration, help="How long it holds; 7d at most.")
@with_connection()
@json_option
def invite(email: str, role: str, expires_in: int | None, connection: Connection) -> None:
    """Invite who has that EMAIL address to a team, with ROLE. The token is shown this once; pass it on yourself."""
    with connection.client() as client:
        named = [{"team": connection.team, "role": role.upper()}]
        body = {"email": email, "teams": named, "expires_in": expires_in}
        made = client.ask("POST", "invitations", body=body, of_team=False)

    def show() -> None:
        click.echo(made["token"])
        say(f"the invitation {made['id']} expires {moment(made['expires_at'], time.time())}; accepted at:")
        say(f"  {connection.api}/invitations/{made['id']}#{made['token']}")

    emit(made, show)


@teams.command()
@click.option("--search", help="Part of a name or e-mail address.")
@with_connection()
@json_option
def users(search: str | None, connection: Connection) -> None:
    """List the users of the installation."""
    query = {} if search is None else {"search": search}
    with connection.client() as client:
        items = client.pages("users", query=query, of_team=False)
    now = time.time()
    rows = [
        (
            each["name"],
            each["email"],
            moment(each["last_sign_in_at"], now),
            "disabled" * bool(each["disabled_at"]),
            each["id"],
        )
        for each in items
    ]
    headings = ("NAME", "E-MAIL", "LAST SIGN-IN", "", "USER")
    emit({"items": items}, lambda: show_rows(headings, rows, "nobody has signed in yet"))
