"""The tree of errors."""

from __future__ import annotations

from typing import get_args

import common.yamux.errors as errors
from common.errors import HomeportError
from common.yamux import DataReceived, Event, RemoteProtocolError, StreamOpened, Violation

CLASSES = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


def test_each_has_a_code_of_its_own_and_is_drawn() -> None:
    codes = {cls.code for cls in CLASSES}
    assert len(codes) == len(CLASSES)
    drawing = errors.__doc__ or ""
    for cls in CLASSES:
        assert issubclass(cls, HomeportError)
        line = next(line for line in drawing.splitlines() if f"─ {cls.__name__}" in line)
        if cls is not errors.YamuxError:
            assert f"{cls.status} {cls.code} " in line


def test_a_violation_tells_what_was_seen() -> None:
    error = RemoteProtocolError(Violation.BAD_VERSION, "a frame of version 7, not 0", events=[StreamOpened(1)])
    assert error.problem()["code"] == "yamux_violation"
    assert error.detail == "bad_version: a frame of version 7, not 0"
    assert error.events == [StreamOpened(1)]


def test_events_are_frozen_and_slotted() -> None:
    for cls in get_args(Event):
        assert "__dict__" not in dir(cls)
        assert cls.__dataclass_params__.frozen
    assert DataReceived(1, b"x") == DataReceived(1, b"x")
