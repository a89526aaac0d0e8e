"""The OpenAPI document and the error codes as plain HTML: no script, and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from common.errors import HomeportError

__all__ = ["PAGE_POLICY", "errors_page", "reference_page"]

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); text-transform: capitalize; }
code, .path { font-family: ui-monospace, monospace; font-size: .93em; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 5em; font-weight: 600; }
.about { opacity: .75; margin-left: .8em; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

PAGE_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""`Content-Security-Policy` of these pages: their own style, and nothing else."""


def reference_page(document: Mapping[str, Any]) -> str:
    """The API reference."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            entry = _operation(document, path, method.upper(), operation)
            by_tag.setdefault(operation["tags"][0], []).append(entry)
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} API</h1>",
        f"<p>{escape(info['summary'])} Version {escape(info['version'])}.</p>",
        '<p>For machines: <a href="/openapi.json">openapi.json</a>. <a href="/docs/errors">All error codes</a>.</p>',
        "<p>Send an API token as <code>Authorization: Bearer hp_...</code> or <code>X-API-Key: hp_...</code>.</p>",
    ]
    for tag, entries in sorted(by_tag.items()):
        parts += [f"<h2>{escape(tag)}</h2>", *entries]
    return _page(f"{info['title']} API", parts)


def errors_page(errors: Iterable[type[HomeportError]]) -> str:
    """The codes of all errors."""
    rows = [
        (f'<code id="{escape(error.code)}">{escape(error.code)}</code>', str(error.status), _text(_first_line(error)))
        for error in sorted(errors, key=lambda error: error.code)
    ]
    return _page("Homeport errors", ["<h1>Errors</h1>", _table(("code", "status", "meaning"), rows)])


def _first_line(error: type[HomeportError]) -> str:
    return (error.__doc__ or error.title).strip().partition("\n")[0]


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    public = ", without a token" if operation.get("security") == [] else ""
    parts = [
        f'<details><summary><span class="method">{escape(method)}</span><span class="path">{escape(path)}</span>',
        f'<span class="about">{escape(operation["summary"])}{public}</span></summary>',
        f"<p>{_text(operation.get('description', ''))}</p>",
    ]
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"<code>{escape(each['name'])}</code>",
                escape(each["in"]),
                _kind(each["schema"]),
                _text(each["description"]),
            )
            for each in parameters
        ]
        parts.append(_table(("parameter", "in", "type", ""), rows))
    if body := operation.get("requestBody"):
        (content,) = body["content"].values()
        parts.append(_fields(document, "Body", content["schema"]))
    statuses = []
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        statuses.append((escape(status), _text(response["description"])))
        if schema:
            parts.append(_fields(document, "Answer", schema))
    parts += [_table(("status", ""), statuses), "</details>"]
    return "\n".join(parts)


def _fields(document: Mapping[str, Any], heading: str, schema: Mapping[str, Any]) -> str:
    """The fields of a body, or of the items of a list."""
    resolved = _resolve(document, schema)
    rows = []
    for name, field in resolved.get("properties", {}).items():
        rows.append((f"<code>{escape(name)}</code>", _kind(field), _text(field.get("description", ""))))
    table = _table((heading, "type", ""), rows)
    items = resolved.get("properties", {}).get("items", {}).get("items")
    return table if items is None else table + _fields(document, "Each item", items)


def _resolve(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    resolved: Mapping[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return resolved


def _kind(schema: Mapping[str, Any]) -> str:
    if reference := schema.get("$ref"):
        return escape(reference.rpartition("/")[2])
    if options := schema.get("anyOf"):
        return " or ".join(_kind(option) for option in options)
    if values := schema.get("enum"):
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    bounds = [f"{words} {schema[key]}" for key, words in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return escape(" ".join([kind, *bounds]))


def _text(text: str) -> str:
    """Escaped, with `code` in back-quotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )
