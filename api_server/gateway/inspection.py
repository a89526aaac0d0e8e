"""What the gateway tells of requests to routes that are inspected. Nobody is told of any other."""

from __future__ import annotations

from typing import Protocol

from api_server.auth.interfaces import Identity
from api_server.gateway.requests import RequestHead
from api_server.gateway.targets import Target

__all__ = ["Recorder", "Recording"]


class Recording(Protocol):
    """One request and its response, as they go by. No method may raise or block."""

    @property
    def id(self) -> str:
        """By which it is found."""
        ...

    def request_body(self, data: bytes) -> None:
        """Bytes of the request's body, as they are framed."""

    def response(self, data: bytes) -> None:
        """Bytes of the response, heads included, as the service sent them."""

    def end(self, *, status: int = 0, code: str | None = None) -> None:
        """It is over; what is said first counts.

        Args:
            status: of an answer of the gateway's own; 0 for none.
            code: of the error; None for none.
        """


class Recorder(Protocol):
    """Keeps what went by."""

    def begin(
        self, target: Target, head: RequestHead, identity: Identity, *, replay_of: str | None = None
    ) -> Recording | None:
        """A request that was let through; None if it is not kept.

        Args:
            target: where it goes.
            head: its head.
            identity: who asks.
            replay_of: id of the request that it repeats; None for a client's own.
        """
        ...

    def expire(self) -> None:
        """Drop what is too old; called now and then."""
