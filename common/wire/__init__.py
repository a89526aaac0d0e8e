"""Messages between agent and relay: msgpack maps behind a length, with size caps and a rule for what is unknown.

`messages` says what can be said, `codec` how it is written and read, `errors` what can be wrong with it. Nothing here
knows sockets, streams or time.
"""

from common.wire.codec import MAX_MESSAGE, MessageReader, decode, encode
from common.wire.errors import (
    InvalidMessageError,
    MessageTooLargeError,
    TruncatedMessageError,
    UnknownMessageError,
    UnsupportedVersionError,
    WireError,
)
from common.wire.messages import (
    FROM_DEVICE,
    FROM_RELAY,
    PROTOCOL_VERSION,
    STREAM_ANSWER,
    STREAM_OPEN,
    DeviceHello,
    Drain,
    Health,
    Message,
    MessageSet,
    OpenRefusal,
    RelayHello,
    Service,
    ServicesChanged,
    Stats,
    StreamAnswer,
    StreamOpen,
)

__all__ = [
    "FROM_DEVICE",
    "FROM_RELAY",
    "MAX_MESSAGE",
    "PROTOCOL_VERSION",
    "STREAM_ANSWER",
    "STREAM_OPEN",
    "DeviceHello",
    "Drain",
    "Health",
    "InvalidMessageError",
    "Message",
    "MessageReader",
    "MessageSet",
    "MessageTooLargeError",
    "OpenRefusal",
    "RelayHello",
    "Service",
    "ServicesChanged",
    "Stats",
    "StreamAnswer",
    "StreamOpen",
    "TruncatedMessageError",
    "UnknownMessageError",
    "UnsupportedVersionError",
    "WireError",
    "decode",
    "encode",
]
