"""Streams to where none may lead: a URL that could be a target when it was saved, and can be none any more."""

from __future__ import annotations

from typing import NoReturn

from api_server.gateway.targets import ServiceStream
from api_server.outbound.errors import TargetForbiddenError
from common.sessions.interfaces import OpenOptions

__all__ = ["RefusedStreams"]


class RefusedStreams:
    """Has none to give. Implements `StreamSource`.

    Args:
        reason: for whoever asks.
    """

    __slots__ = ("_reason",)

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def take(self, now: float, max_idle: float | None) -> NoReturn:  # noqa: ARG002
        raise TargetForbiddenError(self._reason)

    async def get(self, now: float, max_idle: float | None, options: OpenOptions) -> NoReturn:  # noqa: ARG002
        raise TargetForbiddenError(self._reason)

    async def dial(self, options: OpenOptions) -> NoReturn:  # noqa: ARG002
        raise TargetForbiddenError(self._reason)

    async def redial(self, stale: ServiceStream, options: OpenOptions) -> NoReturn:  # noqa: ARG002
        raise TargetForbiddenError(self._reason)

    def device_of(self, stream: ServiceStream) -> None:
        """There is no choice."""

    def put(self, stream: ServiceStream, now: float) -> None:  # noqa: ARG002
        stream.reset()

    def retire(self, stream: ServiceStream, now: float) -> None:  # noqa: ARG002
        stream.reset()
