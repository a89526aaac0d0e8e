"""The wire as a peer sees it, written against the specification and not against our codec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.yamux import Buffer, DataReceived, Event, Session

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
INITIAL = 262144


@dataclass(frozen=True)
class Frame:
    """A frame as it was on the wire."""

    type: int
    flags: int
    stream_id: int
    length: int
    payload: bytes = b""


def frame(type_: int, flags: int, stream_id: int, length: int, payload: bytes = b"", version: int = 0) -> bytes:
    """A frame, right or wrong."""
    return (
        version.to_bytes(1, "big")
        + type_.to_bytes(1, "big")
        + flags.to_bytes(2, "big")
        + stream_id.to_bytes(4, "big")
        + length.to_bytes(4, "big")
        + payload
    )


def data(stream_id: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """A Data frame."""
    return frame(DATA, flags, stream_id, len(payload), payload)


def window(stream_id: int, delta: int = 0, flags: int = 0) -> bytes:
    """A WindowUpdate."""
    return frame(WINDOW_UPDATE, flags, stream_id, delta)


def ping(value: int, flags: int = SYN) -> bytes:
    """A Ping."""
    return frame(PING, flags, 0, value)


def go_away(code: int = 0) -> bytes:
    """A GoAway."""
    return frame(GO_AWAY, 0, 0, code)


def parse(stream: bytes) -> list[Frame]:
    """Every frame of a byte stream that ends with a whole one."""
    frames = []
    at = 0
    while at < len(stream):
        head = stream[at : at + 12]
        assert len(head) == 12, f"{len(head)} bytes left over"
        assert head[0] == 0, "version"
        length = int.from_bytes(head[8:], "big")
        at += 12
        payload = b""
        if head[1] == DATA:
            payload = stream[at : at + length]
            assert len(payload) == length, "a frame was cut"
            at += length
        frames.append(
            Frame(head[1], int.from_bytes(head[2:4], "big"), int.from_bytes(head[4:8], "big"), length, payload)
        )
    return frames


def joined(buffers: Iterable[Buffer]) -> bytes:
    """What goes over the wire."""
    return b"".join(buffers)


def sent(session: Session, limit: int = 1 << 24) -> list[Frame]:
    """What a session says now."""
    return parse(joined(session.data_to_send(limit)))


def payloads(events: Iterable[Event], stream_id: int) -> bytes:
    """What a stream received, in one piece."""
    return b"".join(event.data for event in events if type(event) is DataReceived and event.stream_id == stream_id)


def merged(events: Iterable[Event]) -> list[Event]:
    """Events with neighbouring `DataReceived` of one stream made one, so that cuts of the input leave no trace."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if type(event) is DataReceived and type(last) is DataReceived and last.stream_id == event.stream_id:
            result[-1] = DataReceived(event.stream_id, bytes(last.data) + bytes(event.data))
        elif type(event) is DataReceived:
            result.append(DataReceived(event.stream_id, bytes(event.data)))
        else:
            result.append(event)
    return result


def pump(one: Session, other: Session, now: float = 0.0) -> tuple[list[Event], list[Event]]:
    """Carry bytes both ways until nobody has more to say; nothing is consumed. Returns each side's events."""
    ones: list[Event] = []
    others: list[Event] = []
    while one.has_output or other.has_output:
        others += other.receive_data(joined(one.data_to_send(1 << 24)), now)
        ones += one.receive_data(joined(other.data_to_send(1 << 24)), now)
    return ones + one.events(), others + other.events()
