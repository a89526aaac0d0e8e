"""Pseudo-random bytes that are the same each time, at any offset, faster than a network.

Byte i is byte i of the AES-256-CTR key stream (NIST SP 800-38A section 6.5) of a published key, with the counter
starting at zero. So a shorter answer is the beginning of a longer one, a range can be made without what precedes it,
and no two blocks are alike: bytes lost, repeated or swapped on the way change the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = ["keystream"]

_KEY = hashlib.sha256(b"homeport demo").digest()
_BLOCK = 16
"""Bytes in a block of AES; the counter counts these."""

_CHUNK = 128 * 1024
"""Bytes made at a time: few system calls, and little memory for a reader that is slow."""

_ZEROS = bytes(_CHUNK)


def keystream(start: int, stop: int) -> Iterator[bytes]:
    """The bytes from offset `start` up to, not including, `stop`, in chunks of at most 128 KiB."""
    block, skip = divmod(start, _BLOCK)
    encryptor = Cipher(algorithms.AES(_KEY), modes.CTR(block.to_bytes(_BLOCK, "big"))).encryptor()
    encryptor.update(_ZEROS[:skip])
    left = stop - start
    while left > 0:
        count = min(left, _CHUNK)
        yield encryptor.update(_ZEROS[:count])
        left -= count
