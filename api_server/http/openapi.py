"""The OpenAPI 3.1 document, made of the same types that requests are validated with.

OpenAPI 3.1 takes JSON Schema 2020-12 as it is, which is what msgspec generates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from api_server.auth.errors import (
    ConflictingCredentialsError,
    CredentialInQueryError,
    ForbiddenError,
    TeamNotFoundError,
    TooManyAttemptsError,
    UnauthenticatedError,
)
from api_server.auth.interfaces import INSTALLATION_ACTIONS
from api_server.db.errors import DatabaseUnavailableError
from api_server.http.binding import FORM
from api_server.http.browsers import SAFE_METHODS
from api_server.http.descriptions import field_descriptions, structs_in
from api_server.http.errors import (
    BodyTooLargeError,
    CrossSiteRequestError,
    CsrfHeaderMissingError,
    InternalError,
    MalformedJsonError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
    ValidationFailedError,
)
from api_server.http.problems import MEDIA_TYPE, Problem
from api_server.http.public import PUBLIC
from api_server.http.routes import Route
from common.errors import HomeportError

__all__ = ["openapi_document"]

_REF = "#/components/schemas/{name}"
_WITH_SCHEMA = ("path", "query", "body", "form")
_BODIES = {"body": "application/json", "form": FORM}

_IDENTITY_ERRORS: Sequence[type[HomeportError]] = (
    ConflictingCredentialsError,
    CredentialInQueryError,
    UnauthenticatedError,
    TooManyAttemptsError,
    DatabaseUnavailableError,
)
"""Who asks may be known to the database alone."""
_BODY_ERRORS: Sequence[type[HomeportError]] = (
    RequestTimeoutError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
)

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API token: `hp_...`."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API token: `hp_...`."},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "An API token as the password, any user name: for a browser that asks.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-homeport_session",
        "description": "The session of a person, made at `/api/auth/login`. What changes something needs the header "
        "`X-Homeport-CSRF: 1` as well. Without TLS the cookie is `homeport_session`.",
    },
}


def openapi_document(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """The document that describes `routes`.

    Args:
        routes: all of them.
        version: of the API.
    """
    routes = sorted(routes, key=lambda route: (route.path, route.method))
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Homeport",
            "version": version,
            "summary": "Reach devices behind NAT, and govern who, and which token, may reach them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": _SECURITY_SCHEMES},
        "security": [{name: []} for name in _SECURITY_SCHEMES],
        "tags": [{"name": name} for name in sorted({_tag(route) for route in routes})],
    }


class _Schemas:
    """JSON Schemas of all types that routes mention, by name."""

    def __init__(self, routes: Sequence[Route]) -> None:
        mentioned: list[Any] = [Problem]
        for route in routes:
            mentioned += [kind for name, kind in route.parameters.items() if name in _WITH_SCHEMA]
            if _has_schema(route.result):
                mentioned.append(route.result)
        unique = list(dict.fromkeys(mentioned))
        found, components = msgspec.json.schema_components(unique, ref_template=_REF)
        self._by_type: dict[Any, dict[str, Any]] = dict(zip(unique, found, strict=True))
        self._all = components
        for struct in structs_in(unique):
            for name, text in field_descriptions(struct).items():
                components[struct.__name__]["properties"][name].setdefault("description", text)
        # Paths and queries are written out as parameters; as components they would be mere noise.
        as_parameters = {
            kind.__name__ for route in routes for name, kind in route.parameters.items() if name in ("path", "query")
        }
        self.components = {name: schema for name, schema in components.items() if name not in as_parameters}

    def of(self, kind: Any) -> dict[str, Any]:
        """A reference to the schema of a type."""
        return self._by_type[kind]

    def parameters(self, kind: Any, place: str) -> list[dict[str, Any]]:
        """The fields of a struct as parameters of an operation."""
        schema = self._all[kind.__name__]
        required = schema.get("required", [])
        parameters = []
        for name, field in schema["properties"].items():
            parameters.append(
                {
                    "name": name,
                    "in": place,
                    "required": place == "path" or name in required,
                    "description": field.get("description", ""),
                    "schema": _without_null({key: value for key, value in field.items() if key != "description"}),
                }
            )
        return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is left out is None to the handler; on the wire there is no null."""
    if "anyOf" in schema and {"type": "null"} in schema["anyOf"]:
        (option,) = (option for option in schema["anyOf"] if option != {"type": "null"})
        return dict(option)
    return schema


def _has_schema(kind: Any) -> bool:
    if kind is None or kind is type(None):
        return False
    return not (isinstance(kind, type) and issubclass(kind, web.StreamResponse))


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    parameters = route.parameters
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [_tag(route)],
        "responses": _responses(route, schemas),
    }
    if route.description:
        operation["description"] = route.description
    listed = [
        parameter
        for place in ("path", "query")
        if place in parameters
        for parameter in schemas.parameters(parameters[place], place)
    ]
    if listed:
        operation["parameters"] = listed
    for name in _BODIES.keys() & parameters.keys():
        body = parameters[name]
        operation["requestBody"] = {
            "required": bool(msgspec.json.schema(body)["$defs"][body.__name__].get("required")),
            "content": {_BODIES[name]: {"schema": schemas.of(body)}},
        }
    if _is_public(route):
        operation["security"] = []
    if route.action is not None:
        operation["x-action"] = route.action.value
    return operation


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if _has_schema(route.result):
        success["content"] = {route.media_type: {"schema": schemas.of(route.result)}}
    elif route.result is not type(None) and route.status != HTTPStatus.SEE_OTHER:
        success["content"] = {route.media_type: {}}
    responses = {str(route.status): success}
    if route.redirects:
        responses["303"] = {"description": HTTPStatus.SEE_OTHER.phrase}
    by_status: dict[int, list[str]] = {}
    for error in _errors(route):
        by_status.setdefault(error.status, []).append(error.code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = {
            "description": " or ".join(f"`{code}`" for code in codes),
            "content": {MEDIA_TYPE: {"schema": schemas.of(Problem)}},
        }
    return responses


def _errors(route: Route) -> list[type[HomeportError]]:
    """All that an endpoint can fail with; each once."""
    errors: list[type[HomeportError]] = []
    if not _is_public(route):
        errors += _IDENTITY_ERRORS
    if route.action is not None:
        errors.append(ForbiddenError)
        if route.action not in INSTALLATION_ACTIONS:
            errors.append(TeamNotFoundError)
    if route.method not in SAFE_METHODS:
        errors.append(CrossSiteRequestError)
        if not _is_public(route):
            errors.append(CsrfHeaderMissingError)
    if "body" in route.parameters:
        errors.append(MalformedJsonError)
    if _BODIES.keys() & route.parameters.keys():
        errors += _BODY_ERRORS
    return list(dict.fromkeys([*errors, ValidationFailedError, *route.errors, InternalError]))


def _is_public(route: Route) -> bool:
    return (route.method, route.path) in PUBLIC


def _tag(route: Route) -> str:
    """The resource, which is the first word of the path: `sessions` of `/api/sessions/{id}`."""
    words = re.findall(r"[a-z-]+", route.path.removeprefix("/api"))
    return words[0] if words and route.path.startswith("/api/") else "process"
