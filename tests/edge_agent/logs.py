"""A logger that keeps its lines."""

from __future__ import annotations

from typing import Any, cast

from common.logging import Logger

__all__ = ["RecordingLogger"]


class RecordingLogger:
    """Stands in for `common.logging.Logger`."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        """Level, event and fields."""

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    @property
    def events(self) -> list[str]:
        """What was logged, without its fields."""
        return [event for _, event, _ in self.lines]

    def fields(self, event: str) -> dict[str, Any]:
        """The fields of the last line with that event."""
        return next(fields for _, name, fields in reversed(self.lines) if name == event)

    def as_logger(self) -> Logger:
        """This, for a parameter that wants a `Logger`."""
        return cast(Logger, self)
