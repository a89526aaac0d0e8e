"""Writes the pages of the reference that are made of the code: `python -m homeport.reference docs/reference`.

    settings.md    every setting of every process
    errors.md      every code that an error can have
    api.md         every endpoint of the REST API
    commands.md    every command and its options
    roles.md       what each role of a team may do
    scopes.md      what an API token may be given

A test compares the pages with what would be written now, so that they cannot fall behind.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import api_server
import common
import edge_agent
import homeport
import remote_proxy
from api_server.rest import rest_document
from api_server.teams.roles import roles_page
from api_server.tokens.scopes import scopes_page
from common.errors import HomeportError
from common.settings import Field, Settings, fields_of
from homeport.command_reference import commands_page
from homeport.settings import ALL_SETTINGS

__all__ = ["pages", "write_pages"]

_PACKAGES = (common, remote_proxy, api_server, edge_agent, homeport)

_SETTINGS_HEAD = """\
# Settings

Written from the code by `python -m homeport.reference docs/reference`.

A setting comes from its default, the TOML file (`--config FILE`, or `HOMEPORT_CONFIG`), the environment, or a flag; the
later one wins. In the file, a key at the top holds for every process, and a key in the table of a process (`[relay]`,
`[api]`, `[agent]` ...) for that one. An unknown key or `HOMEPORT_` variable is an error; an empty variable counts as
not set. `homeport config check` says what is in effect, and where each value came from.

Sizes may be written with `KiB`, `MiB`, `GiB`; times with `ms`, `s`, `m`, `h`, `d`, and count as seconds without. In the
environment a list is `a,b` and a table is `name=value,name=value`. A setting that is a secret, `x`, can be given as
`x_file` (`HOMEPORT_X_FILE`): the file must be of mode 0600.
"""

_ERRORS_HEAD = """\
# Errors

Written from the code by `python -m homeport.reference docs/reference`.

Every error has a `code` that does not change: match on it, not on the text. Over HTTP an error is
`application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) with `type`, `title`, `status`, `code`
and `detail`; answers of the REST API have a `request_id` beside them, which is also in the log. When the same request
may succeed later there is a `Retry-After` header. The command line shows the code too, and ends with exit code 1.
"""

_API_HEAD = """\
# REST API

Written from the code by `python -m homeport.reference docs/reference`. A running API server has the same for machines
at `/openapi.json`, and for browsers at `/docs`.

Authenticate with `Authorization: Bearer hp_...` or `X-API-Key: hp_...`. A request names its team by `?team=`; whoever
belongs to exactly one may leave that out. Lists take `limit` (1 to 1000) and `cursor`; `next` in the answer is the
cursor of the next page, or null. Unknown parameters and fields are refused. Times are seconds since the Unix epoch.
"""

_SECTION_TITLES = {
    "relay": "The relay",
    "api": "The API server and the gateway",
    "agent": "The agent",
    "up": "`homeport up`",
    "client": "Commands that ask the API",
}


def pages() -> Mapping[str, str]:
    """The pages as they should be, by file name."""
    return {
        "api.md": _api(),
        "commands.md": commands_page(),
        "errors.md": _errors(),
        "roles.md": roles_page(),
        "scopes.md": scopes_page(),
        "settings.md": _settings(ALL_SETTINGS),
    }


def write_pages(folder: Path) -> None:
    """Write the pages into `folder`."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def _settings(processes: Iterable[type[Settings]]) -> str:
    parts = [_SETTINGS_HEAD]
    for process in processes:
        rows = [
            (
                f"`{field.name}`",
                f"`{field.variable}`",
                field.type,
                _default(field.default),
                field.description,
            )
            for field in _documented(process)
        ]
        parts.append(f"## {_SECTION_TITLES[process.section]}\n\nTable `[{process.section}]` of the file.\n")
        parts.append(_table(("key", "variable", "type", "default", "what it is"), rows))
    return "\n".join(parts)


def _documented(process: type[Settings]) -> list[Field]:
    """The fields of a process; a table of tables is followed by what an entry of it holds."""
    fields: list[Field] = []
    for field in fields_of(process):
        fields.append(field)
        fields += [
            dataclasses.replace(
                each,
                name=f"{field.name}.NAME.{each.name}",
                variable=field.variable.removesuffix("KEY") + each.name.upper(),
            )
            for each in field.entries
        ]
    return fields


def _default(default: str | None) -> str:
    if default is None:
        return "required"
    return f"`{default}`" if default else ""


def _errors() -> str:
    _import_errors()
    by_code: dict[str, list[type[HomeportError]]] = {}
    for error in _subclasses(HomeportError):
        if "code" in vars(error):
            by_code.setdefault(error.code, []).append(error)
    rows = []
    for code, errors in sorted(by_code.items()):
        packages = sorted({error.__module__.partition(".")[0] for error in errors})
        errors.sort(key=lambda error: (error.__module__, error.__qualname__))  # not in the order of imports
        meanings = list(dict.fromkeys(_first_sentence(error) for error in errors))
        statuses = sorted({error.status for error in errors})
        rows.append((f"`{code}`", ", ".join(map(str, statuses)), ", ".join(packages), " / ".join(meanings)))
    return "\n".join([_ERRORS_HEAD, _table(("code", "status", "where", "meaning"), rows)])


def _import_errors() -> None:
    """Import every module named `errors`: what is not imported has no subclasses to find."""
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] == "errors":
                importlib.import_module(module.name)


def _subclasses(error: type[HomeportError]) -> list[type[HomeportError]]:
    found = [error]
    for child in error.__subclasses__():
        if child.__module__.partition(".")[0] in {package.__name__ for package in _PACKAGES}:
            found += _subclasses(child)
    return found


def _first_sentence(error: type[HomeportError]) -> str:
    paragraph = " ".join((error.__doc__ or error.title).split("\n\n")[0].split())
    return paragraph.replace("|", "\\|")


def _api() -> str:
    document = rest_document()
    parts = [_API_HEAD]
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    for tag, operations in sorted(by_tag.items()):
        parts.append(f"## {tag.capitalize()}\n")
        for method, path, operation in operations:
            parts.append(_operation(document, method, path, operation))
    return "\n".join(parts)


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    public = " Without a token." if operation.get("security") == [] else ""
    lines = [f"### `{method} {path}`\n", f"{operation['summary']}.{public} {operation.get('description', '')}".strip()]
    if action := operation.get("x-action"):
        lines.append(f"\nNeeds the action `{action}`.")
    if parameters := operation.get("parameters"):
        rows = [(f"`{each['name']}`", each["in"], each["description"]) for each in parameters]
        lines += ["", _table(("parameter", "in", "what it is"), rows).rstrip()]
    if body := operation.get("requestBody"):
        ((media_type, content),) = body["content"].items()
        heading = "body" if media_type == "application/json" else "form field"
        lines += ["", _fields(document, heading, content["schema"])]
    answers = []
    for status, response in operation["responses"].items():
        succeeded = int(status) < 400
        answers.append(f"{status} {HTTPStatus(int(status)).phrase if succeeded else response['description']}")
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if succeeded and schema:
            lines += ["", _fields(document, "answer", schema)]
    lines += ["", f"Answers: {'; '.join(answers)}.\n"]
    return "\n".join(lines)


def _fields(document: Mapping[str, Any], heading: str, schema: Mapping[str, Any]) -> str:
    """The fields of a body, and of the items of a list."""
    resolved = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    rows = [(f"`{name}`", _kind(field), field.get("description", "")) for name, field in resolved["properties"].items()]
    table = _table((heading, "type", "what it is"), rows).rstrip()
    items = resolved["properties"].get("items", {}).get("items")
    return table if items is None else f"{table}\n\n{_fields(document, 'each item', items)}"


def _kind(schema: Mapping[str, Any]) -> str:
    if reference := schema.get("$ref"):
        return f"{reference.rpartition('/')[2]}"
    if options := schema.get("anyOf"):
        return " or ".join(_kind(option) for option in options)
    if values := schema.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "any"))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
