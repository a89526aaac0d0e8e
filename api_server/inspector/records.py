"""What the inspector shows. Times are seconds since the Unix epoch."""

from __future__ import annotations

import msgspec

__all__ = ["Body", "InspectedMessage", "InspectedRequest", "InspectedResponse", "InspectedSummary"]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a message, without its framing; what is secret in it is `***`."""

    size: int
    """Bytes that went by."""
    truncated: bool
    """Whether more went by than is kept."""
    text: str | None
    """If it is text."""
    base64: str | None
    """If it is not."""


class InspectedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A request, as the client sent it."""

    headers: list[tuple[str, str]]
    body: Body


class InspectedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response, as the service sent it."""

    status: int
    headers: list[tuple[str, str]]
    body: Body


class InspectedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A request that went to a route."""

    id: str
    at: float
    method: str
    target: str
    """Path and query."""
    status: int
    """Of the answer that the client got; 0 for none."""
    error: str | None
    """Code of the error, if the gateway answered, or cut."""
    seconds: float
    """From its head to the end of the response."""
    caller: str
    """Kind and id of who asked."""
    replay_of: str | None
    """Id of the request that it repeats."""
    replayable: bool
    """Whether it was kept whole, and can be sent again."""


class InspectedRequest(InspectedSummary, frozen=True, kw_only=True):
    """The same, with what went by."""

    request: InspectedMessage
    response: InspectedResponse | None
    """None when there was none."""
