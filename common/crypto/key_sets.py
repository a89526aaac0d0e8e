"""Files of Ed25519 keys: JSON Web Key Sets (RFC 7517 section 5), a private one and a public one.

The first key of the private set signs. The public set holds every key that is still believed, the retired ones, too.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import read_public, read_secret, write_public, write_secret

__all__ = ["dump_keys", "ensure_key_pair", "generate_key_pair", "parse_keys"]


class _Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a key of ours consists of; `alg` is left out, because it may say `EdDSA` or, since RFC 9864, `Ed25519`."""

    kty: str
    crv: str | None = None
    x: str | None = None
    d: str | None = None
    use: str | None = None

    @property
    def usable(self) -> bool:
        return self.kty == "OKP" and self.crv == "Ed25519" and self.use in (None, "sig")


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[_Key]


def generate_key_pair(private_path: Path, public_path: Path) -> None:
    """Make a key, write the private key set (0600), then the public one.

    Raises:
        KeyFileError: there is a private file already, or the disk refuses.
    """
    if private_path.exists():
        raise KeyFileError(f"{private_path} exists already; a key in use is not overwritten")
    key = OKPKey.generate_key("Ed25519", private=True)
    write_secret(private_path, dump_keys([key], private=True))
    write_public(public_path, dump_keys([key], private=False))


def ensure_key_pair(private_path: Path, public_path: Path) -> None:
    """Make a key if there is no private file yet, and see to it that the public file has its public part.

    A public file that is there is kept if it holds the key that signs: it may hold retired keys beside it.

    Raises:
        KeyFileError: a file cannot be trusted, or the disk refuses.
    """
    if not private_path.exists():
        generate_key_pair(private_path, public_path)
        return
    keys = parse_keys(read_secret(private_path).reveal(), str(private_path), private=True)
    with contextlib.suppress(KeyFileError):
        if keys[0].thumbprint() in {
            key.thumbprint() for key in parse_keys(read_public(public_path), "it", private=False)
        }:
            return
    write_public(public_path, dump_keys(keys, private=False))


def parse_keys(text: str, source: str, *, private: bool) -> list[OKPKey]:
    """The Ed25519 keys of a key set; at least one.

    Args:
        text: the key set.
        source: where it is from, for errors.
        private: the first key must be a private one.

    Raises:
        KeyFileError: it holds no such key.
    """
    # The errors below have no cause on purpose: that of a parser would quote the key.
    try:
        members = msgspec.json.decode(text, type=_KeySet).keys
        usable = [OKPKey.import_key(msgspec.to_builtins(key)) for key in members if key.usable]
    except (JoseError, ValueError, TypeError):
        raise KeyFileError(f"{source} is not a JSON Web Key Set (RFC 7517 section 5)") from None
    if not usable or (private and not usable[0].is_private):
        raise KeyFileError(f"{source} holds no {'private ' if private else ''}Ed25519 key")
    return usable


def dump_keys(keys: list[OKPKey], *, private: bool) -> str:
    """The key set as text, with or without its private parts."""
    members = [{**key.as_dict(private=private), "kid": key.thumbprint(), "use": "sig", "alg": "EdDSA"} for key in keys]
    return msgspec.json.format(msgspec.json.encode({"keys": members}, order="sorted"), indent=2).decode() + "\n"
