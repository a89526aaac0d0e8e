"""Fuzzes the reading of frames: any bytes, in any pieces, are events or a violation.

Run it as `python -m tests.common.yamux.fuzz_frames [libFuzzer options] [corpus]`;
without `-runs=` it goes on until it finds something.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["common.yamux"]):
    from common.yamux import Config, Event, RemoteProtocolError, Role, Session

from tests.common.yamux.wire import joined, merged, parse

CONFIG = Config(control_frames_burst=200, pings_burst=20, max_control_queue=600, max_streams=8, accept_backlog=6)


def read(data: bytes, cut: int) -> tuple[list[Event], str, bytes]:
    """All that a session makes of the bytes: its events, how it ended, and what it answered."""
    session = Session(Role.SERVER, CONFIG, now=0.0)
    session.open_stream(0.0)
    answered = joined(session.data_to_send(1 << 20))
    events: list[Event] = []
    ended = ""
    for at in range(0, len(data), cut):
        try:
            events += session.receive_data(data[at : at + cut], 0.0)
        except RemoteProtocolError as exc:
            events += exc.events
            ended = exc.detail
            break
    answered += joined(session.data_to_send(1 << 20))
    parse(answered)
    assert session.is_closed is bool(ended)
    return merged(events), ended, answered


def one_input(data: bytes) -> None:
    """The first byte says how the rest is cut; however it is, it means the same."""
    if data:
        assert read(data[1:], 1 + data[0]) == read(data[1:], max(len(data), 1))


def main() -> None:
    """Hand the process over to libFuzzer."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
