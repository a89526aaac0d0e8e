"""WebSocket frames, written out by hand: right ones and wrong ones."""

from __future__ import annotations

KEY = b"\x01\x02\x03\x04"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def unmask(payload: bytes, key: bytes = KEY) -> bytes:
    """One byte at a time, as RFC 6455 section 5.3 says."""
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    key: bytes | None = None,
    reserved: int = 0,
    length: int | None = None,
    length_size: int | None = None,
) -> bytes:
    """A frame.

    Args:
        opcode: 0 to 15.
        payload: in clear.
        fin: the FIN bit.
        key: masks the frame, if given.
        reserved: the three reserved bits.
        length: another length than the payload's.
        length_size: 0, 2 or 8 bytes of extended length, instead of the shortest form.
    """
    size = len(payload) if length is None else length
    if length_size is None:
        length_size = 0 if size < 126 else 2 if size < 0x10000 else 8
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    second = (0x80 if key else 0) | {0: size, 2: 126, 8: 127}[length_size]
    extended = size.to_bytes(length_size, "big") if length_size else b""
    return bytes((first, second)) + extended + (key + unmask(payload, key) if key else payload)
