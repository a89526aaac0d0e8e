"""Structured logs on standard error, the same from our code and from the libraries below it.

`configure` is called once, by the composition root of a process. Logs are for what happens to sessions, listeners and
credentials; never for one message or one stream (see the metrics for those).

The last step of every line masks what looks like a credential, whoever logged it and wherever in the line it stands:
it works on the finished text, so that keys, nested values and tracebacks are covered. It is a net below the rule that
secrets are held in `Secret`, not a replacement of it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

__all__ = ["Format", "Level", "Logger", "configure", "get_logger", "mask"]

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]
Logger = FilteringBoundLogger

_CREDENTIALS = re.compile(
    r"""
      \b(?P<scheme>[Bb]earer|[Bb]asic|BEARER|BASIC)[ ]+(?=[^\s"']*[0-9A-Z=])[A-Za-z0-9._~+/=-]{8,}   # RFC 9110 11.6.2
    | \b(?P<prefix>hp[a-z]?_)[0-9A-Za-z]{12,}                                               # our tokens, all kinds
    | \beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*)?                       # a JWT, whole or cut
    | (?P<userinfo>\b[a-z][a-z0-9+.-]{1,20}://[^\s/?\#:@"']{0,256}:)[^\s/?\#@"']{1,1024}(?=@)  # user:password@ of a URL
    """,
    re.VERBOSE | re.ASCII,
)

_QUIET_LIBRARIES = ("aiohttp.access", "aiosqlite", "asyncio", "httpcore", "httpx", "websockets")
"""Log at most their warnings: what they say at lower levels is said once a request, a frame or a statement, and that of
statements with the values in them.
"""


# Standard error before `configure`, too, and in programs that never call it: their standard output is an answer.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def mask(text: str) -> str:
    """`text` with everything that looks like a credential replaced by `***`."""
    return _CREDENTIALS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']} ***"
    return (match["prefix"] or match["userinfo"] or "") + "***"


def configure(*, format: Format = "json", level: Level = "info", stream: TextIO | None = None) -> None:  # noqa: A002
    """Send all logs of the process to `stream`, by default standard error.

    Args:
        format: `json`, one object a line, for machines; `console`, coloured on a terminal, for people.
        level: the lowest level that is logged.
        stream: for tests.
    """
    output = sys.stderr if stream is None else stream
    threshold: int = getattr(logging, level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    final = _rendering(format, output)
    structlog.configure(
        processors=[*shared, _add_name, *final],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda name="homeport": _Lines(name, output),
        # Loggers made at import time must follow a later configure().
        cache_logger_on_first_use=False,
    )

    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `logger=name`; cheap to make, usable before `configure`."""
    return cast(Logger, structlog.get_logger(name))


class _Lines:
    """Where our own loggers end: one write a line, so that processes may share the stream.

    A line that cannot be written (a full disk, a reader that went away) is lost, and whoever logged goes on: a tunnel
    must not fail because of what is said about it.
    """

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()

    msg = debug = info = warning = error = critical = exception = write


def _add_name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What every line has comes first, at the same place, for people who read JSON."""
    first = {key: event.pop(key) for key in ("time", "level", "logger", "event") if key in event}
    return {**first, **event}


def _rendering(format: Format, output: TextIO) -> list[Processor]:  # noqa: A002
    if format == "json":
        return [
            structlog.processors.format_exc_info,
            _in_order,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
            _mask_line,
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback, timestamp_key="time"
        ),
        _mask_line,
    ]


def _mask_line(_logger: WrappedLogger, _method: str, line: EventDict | str) -> Any:
    return mask(str(line))
