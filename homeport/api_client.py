"""The REST API as the commands use it: blocking calls, and every refusal as an error with the API's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from common.ids import SessionId
from common.secret import Secret
from common.sessions.interfaces import Page, Summary
from homeport.errors import ApiRefusedError, ApiUnreachableError
from homeport.problems import read_problem

__all__ = ["NULL", "ApiClient", "IssuedToken"]

T = TypeVar("T")

NULL: Final = object()
"""In a body: null, where None is what is left out."""

_PAGE = 1000
"""Sessions asked for at a time; the API's own limit."""


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A session token, shown this once."""

    id: str
    session_token: str
    expires_at: float
    """Seconds since the Unix epoch."""
    tunnel_url: str


class ApiClient:
    """Asks one API with one token. A context manager; calls are not thread-safe.

    Args:
        url: base URL of the API.
        token: API token.
        team: that every call is about.
        timeout: seconds for a connection to be made, and for each wait for bytes.
    """

    def __init__(self, url: str, token: Secret, team: str, *, timeout: float = 15.0) -> None:
        self._url = url.rstrip("/")
        self._team = team
        try:
            self._http = httpx.Client(
                base_url=self._url,
                headers={"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"},
                timeout=timeout,
                # A proxy of the environment is for other machines; with HTTP_PROXY alone it would get these, too.
                trust_env=not _is_loopback(httpx.URL(self._url).host),
            )
        except httpx.InvalidURL as exc:
            raise ApiUnreachableError(f"{url!r} is no URL of an API: {exc}") from exc

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def sessions(self) -> Iterator[Summary]:
        """Every live session of the team, asked for page by page.

        Raises:
            ApiError: as every call here.
        """
        cursor: str | None = None
        while True:
            parameters = {"limit": str(_PAGE)} | ({} if cursor is None else {"cursor": cursor})
            page = self._get("/api/sessions", Page, parameters)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def session(self, session_id: SessionId) -> Summary:
        """One live session."""
        return self._get(f"/api/sessions/{quote(session_id, safe='')}", Summary)

    def close_session(self, session_id: SessionId, *, epoch: int | None = None) -> None:
        """End a live session; only if it has that `epoch`, when one is given."""
        parameters = {} if epoch is None else {"epoch": str(epoch)}
        self._call("DELETE", f"/api/sessions/{quote(session_id, safe='')}", parameters)

    def issue_session_token(
        self, device: str, *, expires_in: int | None = None, service: str | None = None
    ) -> IssuedToken:
        """A new session token of a device.

        Args:
            device: its id.
            expires_in: seconds; None for the API's default.
            service: the one service of a device that does not run our agent.
        """
        body: dict[str, object] = {}
        if expires_in is not None:
            body["expires_in"] = expires_in
        if service is not None:
            body["service"] = service
        path = f"/api/devices/{quote(device, safe='')}/session-tokens"
        return self._decode(self._call("POST", path, None, body), IssuedToken)

    def ask(
        self,
        method: str,
        *path: str,
        body: Mapping[str, object] | None = None,
        query: Mapping[str, str] | None = None,
        of_team: bool = True,
    ) -> Any:
        """Any other call, by the names of the reference.

        Args:
            method: of the request.
            path: its segments behind `/api`, unescaped.
            body: what is left out is None, what is null is `NULL`.
            query: more than the team.
            of_team: whether the path takes `?team=`.

        Returns:
            What the API answers; None for nothing.
        """
        escaped = "/".join(quote(segment, safe="") for segment in path)
        given = None
        if body is not None:
            given = {name: None if value is NULL else value for name, value in body.items() if value is not None}
        answer = self._call(method, f"/api/{escaped}", query, given, of_team=of_team)
        return self._decode(answer, object) if answer else None

    def pages(self, *path: str, query: Mapping[str, str] | None = None, of_team: bool = True) -> list[Any]:
        """All items of a list, asked for page by page."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            parameters = {**(query or {}), "limit": str(_PAGE)} | ({} if cursor is None else {"cursor": cursor})
            page = self.ask("GET", *path, query=parameters, of_team=of_team)
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def _get(self, path: str, answer: type[T], parameters: Mapping[str, str] | None = None) -> T:
        return self._decode(self._call("GET", path, parameters), answer)

    def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        *,
        of_team: bool = True,
    ) -> bytes:
        query = ({"team": self._team} if of_team else {}) | dict(parameters or {})
        try:
            response = self._http.request(method, path, params=query, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ApiUnreachableError(
                f"the API at {self._url} does not answer ({str(exc) or type(exc).__name__}); is it running there?"
            ) from exc
        if response.is_success:
            return response.content
        problem = read_problem(response.status_code, response.content)
        raise ApiRefusedError(
            problem.detail,
            http_status=response.status_code,
            reason=problem.code,
            retry_after=_seconds(response.headers.get("Retry-After")),
        )

    def _decode(self, body: bytes, answer: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=answer)
        except msgspec.DecodeError as exc:
            raise ApiUnreachableError(
                f"{self._url} does not answer as the API would; is it the URL of the API?"
            ) from exc


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
