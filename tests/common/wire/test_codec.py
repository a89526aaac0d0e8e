"""Messages as bytes: whole, cut anywhere, too large, hostile."""

from __future__ import annotations

import contextlib
import itertools

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import (
    FROM_DEVICE,
    FROM_RELAY,
    MAX_MESSAGE,
    STREAM_ANSWER,
    STREAM_OPEN,
    DeviceHello,
    Drain,
    InvalidMessageError,
    Message,
    MessageReader,
    MessageTooLargeError,
    RelayHello,
    Service,
    ServicesChanged,
    Stats,
    StreamAnswer,
    StreamOpen,
    TruncatedMessageError,
    UnknownMessageError,
    UnsupportedVersionError,
    WireError,
    decode,
    encode,
)
from common.wire.codec import LENGTH_SIZE

labels = st.text(max_size=128)
names = st.text(min_size=1, max_size=40)
counts = st.integers(0, 2**63 - 1)
seconds = st.floats(0, 31_536_000)
services = st.lists(st.builds(Service, name=names, kind=labels, health=labels), max_size=8)

FROM_DEVICE_MESSAGES = st.one_of(
    st.builds(
        DeviceHello,
        version=st.integers(1, 9),
        min_version=st.just(1),
        software=labels,
        capabilities=st.lists(labels, max_size=4),
        services=services,
    ),
    st.builds(ServicesChanged, services=services),
    st.builds(
        Stats,
        uptime=seconds,
        streams=counts,
        streams_total=counts,
        bytes_in=counts,
        bytes_out=counts,
        figures=st.dictionaries(labels, st.floats(allow_nan=False), max_size=4),
    ),
    st.builds(Drain, reconnect_after=seconds, reason=labels),
)
FROM_RELAY_MESSAGES = st.one_of(
    st.builds(
        RelayHello,
        software=labels,
        capabilities=st.lists(labels, max_size=4),
        session_id=labels,
        epoch=counts,
        probe_interval=seconds,
        dead_after=seconds,
        max_streams=counts,
    ),
    st.builds(Drain, reconnect_after=seconds, reason=labels),
)
PLACES = {
    "from device": (FROM_DEVICE, FROM_DEVICE_MESSAGES),
    "from relay": (FROM_RELAY, FROM_RELAY_MESSAGES),
    "open": (
        STREAM_OPEN,
        st.builds(StreamOpen, service=names, timeout=seconds, traceparent=st.none() | labels),
    ),
    "answer": (STREAM_ANSWER, st.builds(StreamAnswer, ok=st.booleans(), code=labels, detail=st.text(max_size=1024))),
}


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def packed(**fields: object) -> bytes:
    body = msgpack.packb(fields)
    assert isinstance(body, bytes)
    return body


@pytest.mark.parametrize("place", PLACES)
@given(data=st.data())
def test_what_is_written_is_read(place: str, data: st.DataObject) -> None:
    known, strategy = PLACES[place]
    message: Message = data.draw(strategy)
    assert decode(encode(message)[LENGTH_SIZE:], known) == message


@given(
    messages=st.lists(FROM_DEVICE_MESSAGES, max_size=6),
    cuts=st.lists(st.integers(0, 4096), max_size=20),
    rest=st.binary(max_size=3),
)
def test_messages_cut_anywhere(messages: list[Message], cuts: list[int], rest: bytes) -> None:
    stream = b"".join(encode(message) for message in messages) + rest
    reader = MessageReader(FROM_DEVICE)
    edges = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    read: list[Message] = []
    for start, stop in itertools.pairwise(edges):
        read += reader.receive(memoryview(stream)[start:stop])
    assert read == messages
    assert reader.take_rest() == rest
    assert reader.buffered == 0


def test_byte_by_byte_gives_the_same() -> None:
    message = StreamOpen(service="web", timeout=2.5, traceparent="00-1-2-01")
    reader = MessageReader(STREAM_OPEN)
    stream = encode(message)
    read = [list(reader.receive(stream[i : i + 1])) for i in range(len(stream))]
    assert read == [[]] * (len(stream) - 1) + [[message]]


def test_bytes_after_the_message_are_left_for_the_stream() -> None:
    reader = MessageReader(STREAM_ANSWER)
    answer = next(reader.receive(encode(StreamAnswer(ok=True)) + b"\x00\x00 raw bytes"))
    assert answer == StreamAnswer(ok=True)
    assert reader.take_rest() == b"\x00\x00 raw bytes"


def test_a_field_that_is_not_known_is_ignored() -> None:
    body = packed(type="open", service="web", timeout=1.0, colour="blue", nested={"a": [1]})
    assert decode(body, STREAM_OPEN) == StreamOpen(service="web", timeout=1.0)


def test_a_field_that_is_not_sent_has_its_default() -> None:
    assert decode(packed(type="open", service="web"), STREAM_OPEN) == StreamOpen(service="web", timeout=10.0)


def test_an_unknown_type_marked_optional_is_skipped() -> None:
    known = encode(Drain(reason="later"))
    reader = MessageReader(FROM_DEVICE)
    stream = framed(packed(type="weather", optional=True, sky="grey")) + known
    assert list(reader.receive(stream)) == [Drain(reason="later")]


@pytest.mark.parametrize("optional", [False, 1, "yes", None])
def test_an_unknown_type_that_is_mandatory_is_an_error(optional: object) -> None:
    with pytest.raises(UnknownMessageError, match="mandatory"):
        decode(packed(type="weather", optional=optional), FROM_DEVICE)


def test_optional_is_written_for_who_does_not_know_the_type() -> None:
    fields = msgpack.unpackb(encode(Stats(), optional=True)[LENGTH_SIZE:])
    assert fields["optional"] is True
    assert "optional" not in msgpack.unpackb(encode(Stats())[LENGTH_SIZE:])


@pytest.mark.parametrize(
    ("min_version", "version", "readable"), [(1, 1, True), (1, 7, True), (2, 2, False), (7, 9, False)]
)
@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"type": "hello", "software": "agent/9"}, FROM_DEVICE),
        ({"type": "hello", "software": "relay/9", "session_id": "ses_1", "epoch": 1}, FROM_RELAY),
    ],
)
def test_versions(
    fields: dict[str, object], known: dict[str, type[Message]], min_version: int, version: int, readable: bool
) -> None:
    body = packed(**fields, version=version, min_version=min_version)
    if readable:
        assert decode(body, known) is not None
    else:
        with pytest.raises(UnsupportedVersionError, match="up to 1"):
            decode(body, known)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",  # never used in msgpack
        b"\x81",  # a map that ends
        b"\x81\xa4type",
        b"\x81\xa4type\xa4open\x00",  # a byte too many
        packed(type="open", service="web")[:-1],
        b"\x93\x01\x02\x03",  # an array
        b"\xa5hello",
        b"\xc0",
        packed(),
        packed(type=1),
        packed(type=["open"]),
        packed(type=b"open"),
        b"\x81\xc4\x04type\xa4open",  # a key of bytes
        b"\x82\xa4type\xa4open\x81\x01\x02\x03",  # a key that is a map
        b"\x81\xa4type\xa2\xff\xfe",  # no UTF-8
        b"\x91" * 2000 + b"\x01",  # too deep
        b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1 elements
        b"\xc6\xff\xff\xff\xff",  # as many bytes
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        decode(body, STREAM_OPEN)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "service"),
        ({"service": ""}, "service"),
        ({"service": "x" * 41}, "service"),
        ({"service": 7}, "service"),
        ({"service": b"web"}, "service"),
        ({"service": "web", "timeout": -1.0}, "timeout"),
        ({"service": "web", "timeout": 1e300}, "timeout"),
        ({"service": "web", "timeout": float("nan")}, "timeout"),
        ({"service": "web", "timeout": "soon"}, "timeout"),
        ({"service": "web", "traceparent": "x" * 129}, "traceparent"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidMessageError, match=field) as caught:
        decode(packed(type="open", **fields), STREAM_OPEN)
    assert "x" * 41 not in str(caught.value)


def test_more_services_than_the_cap_are_refused() -> None:
    many = [{"name": f"s{i}"} for i in range(257)]
    with pytest.raises(InvalidMessageError, match="services"):
        decode(packed(type="services", services=many), FROM_DEVICE)


def test_a_length_over_the_limit_is_refused_before_anything_is_kept() -> None:
    reader = MessageReader(FROM_DEVICE)
    with pytest.raises(MessageTooLargeError, match=str(MAX_MESSAGE + 1)):
        list(reader.receive((MAX_MESSAGE + 1).to_bytes(LENGTH_SIZE, "big")))
    assert reader.buffered == LENGTH_SIZE


def test_a_message_of_exactly_the_limit_is_read() -> None:
    empty = Drain(reason="")
    body = encode(empty)[LENGTH_SIZE:]
    reader = MessageReader(FROM_DEVICE, limit=len(body))
    assert list(reader.receive(framed(body))) == [empty]
    with pytest.raises(MessageTooLargeError):
        list(MessageReader(FROM_DEVICE, limit=len(body) - 1).receive(framed(body)))


@given(st.lists(st.binary(max_size=600), max_size=20))
def test_a_reader_never_holds_more_than_one_message(chunks: list[bytes]) -> None:
    limit = 256
    reader = MessageReader(FROM_DEVICE, limit=limit)
    for chunk in chunks:
        try:
            list(reader.receive(chunk))
        except WireError:
            return
        assert reader.buffered < LENGTH_SIZE + limit


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_wire_error(body: bytes) -> None:
    for known in (FROM_DEVICE, FROM_RELAY, STREAM_OPEN, STREAM_ANSWER):
        with contextlib.suppress(WireError):
            decode(body, known)


@given(
    fields=st.dictionaries(
        st.sampled_from(["service", "services", "timeout", "version", "software", "ok", "optional", "code", "epoch"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
    ),
    name=st.sampled_from(["hello", "services", "stats", "drain", "open", "answer", "weather"]),
)
def test_no_fields_raise_anything_but_a_wire_error(fields: dict[str, object], name: str) -> None:
    body = packed(**(fields | {"type": name}))
    for known in (FROM_DEVICE, FROM_RELAY, STREAM_OPEN, STREAM_ANSWER):
        try:
            message = decode(body, known)
        except WireError:
            continue
        assert message is None or name == message.TYPE


def test_ours_that_is_too_large_is_our_error() -> None:
    huge = ServicesChanged(services=[Service(name=f"service-{i}", kind="k" * 200) for i in range(400)])
    with pytest.raises(MessageTooLargeError, match="at most"):
        encode(huge)


def test_the_largest_hello_that_is_allowed_fits() -> None:
    label = "\N{GRINNING FACE}" * 40
    hello = DeviceHello(
        software="agent/1",
        services=[Service(name=f"{'n' * 36}{i:04}", kind="http", health=label[:8]) for i in range(256)],
    )
    assert decode(encode(hello)[LENGTH_SIZE:], FROM_DEVICE) == hello


def test_a_stream_that_ends_inside_a_message() -> None:
    reader = MessageReader(FROM_DEVICE)
    reader.receive_eof()
    list(reader.receive(encode(Drain())[:-1]))
    with pytest.raises(TruncatedMessageError, match="bytes of a message"):
        reader.receive_eof()
