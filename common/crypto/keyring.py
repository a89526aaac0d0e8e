"""The keys that wrap the keys of records (key-encryption keys): one JSON file, 0600, for a whole installation.

    {"keys": [{"id": "kek-0f...", "key": "<32 bytes, base64url>"}, ...],
     "prepared": [...], "retired": [...], "signing": "<32 bytes, base64url>"}

The first of `keys` wraps what is sealed from now on; the others still open what they wrapped. A prepared key will wrap
one day, and opens already: where processes have copies of the file, it is in all of them before it is used in one. A
retired key wraps
nothing and is needed by no record that anybody counted: it opens what a process that had not heard of the retirement
sealed meanwhile, and old backups, until somebody forgets it.

Ids are random and of one length: they say nothing, and all sealed texts of a key begin alike.

`signing` is the seed of an Ed25519 key (RFC 8032) by which an installation knows again what it has left elsewhere. It
stays when the others rotate: it opens nothing.

A process holds a `KeyringFile`, which reads the file anew when it was replaced, so that keys rotate while everything
runs. Changes of the file take a lock beside it: a key that a record needs must not be lost by two changes at once.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from common.crypto.errors import KeyFileError, KeyMissingError
from common.crypto.keyfiles import ensure_secret, read_secret, write_secret
from common.secret import Secret, SecretBytes

__all__ = [
    "Keyring",
    "KeyringFile",
    "WrappingKey",
    "add_key",
    "ensure_keyring",
    "forget_key",
    "is_key_id",
    "new_wrapping_key",
    "prepare_key",
    "retire_keys",
]

KEY_LENGTH = 32
"""Bytes: AES-256."""

_MAX_KEYS = 64
_ID = re.compile(r"kek-[0-9a-f]{16}", re.ASCII)


def is_key_id(text: str) -> bool:
    """Whether `text` has the shape of a key's id."""
    return _ID.fullmatch(text) is not None


class WrappingKey:
    """A key-encryption key. It shows its id, never itself.

    Args:
        key_id: for which `is_key_id` holds.
        key: 32 bytes.

    Raises:
        ValueError: one of them is none.
    """

    __slots__ = ("id", "key")

    def __init__(self, key_id: str, key: SecretBytes) -> None:
        if not is_key_id(key_id):
            raise ValueError("the id of a key is kek- and 16 hexadecimal digits")
        if len(key.reveal()) != KEY_LENGTH:
            raise ValueError(f"a key is {KEY_LENGTH} bytes in base64url")
        self.id = key_id
        self.key = key

    def __repr__(self) -> str:
        return f"WrappingKey({self.id})"


def new_wrapping_key() -> WrappingKey:
    """A fresh key: 256 random bits."""
    return WrappingKey(f"kek-{secrets.token_hex(8)}", SecretBytes(secrets.token_bytes(KEY_LENGTH)))


class Keyring:
    """Keys, the one that wraps first. It does not change.

    Args:
        keys: that wrap (the first) and open.
        retired: that open alone.
        signing: a seed of 32 bytes; a keyring of an older version has none until `ensure_keyring` has seen it.

    Raises:
        ValueError: there is no key to wrap with, too many, or an id twice.
    """

    __slots__ = ("_by_id", "keys", "prepared", "retired", "signing")

    def __init__(
        self,
        keys: Sequence[WrappingKey],
        retired: Sequence[WrappingKey] = (),
        signing: SecretBytes | None = None,
        prepared: Sequence[WrappingKey] = (),
    ) -> None:
        self.keys = tuple(keys)
        self.prepared = tuple(prepared)
        self.retired = tuple(retired)
        self.signing = signing
        every = (*self.keys, *self.prepared, *self.retired)
        self._by_id = {key.id: key for key in every}
        if not self.keys or len(self._by_id) > _MAX_KEYS:
            raise ValueError(f"1 to {_MAX_KEYS} keys are needed")
        if len(self._by_id) != len(every):
            raise ValueError("two keys have the same id")
        if signing is not None and len(signing.reveal()) != KEY_LENGTH:
            raise ValueError(f"the signing key is {KEY_LENGTH} bytes in base64url")

    @classmethod
    def from_file(cls, path: Path) -> Keyring:
        """The keys in a file.

        Raises:
            KeyFileError: it is missing, cannot be trusted, or holds no keys.
        """
        if not path.exists():
            raise KeyFileError(
                f"{path} is missing; it holds the keys of what is sealed, and `homeport keys init` makes one"
            )
        return cls.parse(read_secret(path), str(path))

    @classmethod
    def parse(cls, text: Secret, source: str) -> Keyring:
        """The keys in a text.

        Args:
            text: as `dump` gave it.
            source: where it is from, for errors.

        Raises:
            KeyFileError: it holds none.
        """
        # No cause: that of a parser could quote the key.
        try:
            document = msgspec.json.decode(text.reveal(), type=_Document)
            signing = None if document.signing is None else _raw(document.signing)
            keys, retired, prepared = (
                [_key(entry) for entry in entries] for entries in (document.keys, document.retired, document.prepared)
            )
            return cls(keys, retired, signing, prepared)
        except (msgspec.DecodeError, RecursionError):
            raise KeyFileError(f"{source} is no keyring: JSON with `keys`, each with `id` and `key`") from None
        except ValueError as exc:
            raise KeyFileError(f"{source}: {exc}") from None

    def dump(self) -> Secret:
        """The keyring as text, for its file."""
        document = _Document(
            keys=[_entry(key) for key in self.keys],
            prepared=[_entry(key) for key in self.prepared],
            retired=[_entry(key) for key in self.retired],
            signing=None if self.signing is None else _text(self.signing),
        )
        return Secret(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")

    def current(self) -> Keyring:
        """Itself: it does not change, where a `KeyringFile` does."""
        return self

    @property
    def first(self) -> WrappingKey:
        """The key that wraps."""
        return self.keys[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of every key, the retired ones last."""
        return tuple(self._by_id)

    def get(self, key_id: str) -> WrappingKey:
        """The key of that id.

        Raises:
            KeyMissingError: there is none.
        """
        try:
            return self._by_id[key_id]
        except KeyError:
            raise KeyMissingError(key_id) from None

    def with_first(self, key: WrappingKey) -> Keyring:
        """One in which the newest prepared key wraps, or `key` where there is none."""
        if self.prepared:
            key = self.prepared[-1]
        return Keyring([key, *self.keys], self.retired, self.signing, self.prepared[:-1])

    def with_prepared(self, key: WrappingKey) -> Keyring:
        """One in which `key` opens, and will wrap."""
        return Keyring(self.keys, self.retired, self.signing, [*self.prepared, key])

    def with_retired(self, key_ids: Sequence[str]) -> Keyring:
        """One in which those keys open alone; those that are retired already stay so.

        Raises:
            KeyMissingError: there is no such key.
            ValueError: the first key is among them.
        """
        for key_id in key_ids:
            self.get(key_id)
        if self.first.id in key_ids:
            raise ValueError(f"{self.first.id} is the key that wraps; add another one first")
        leaving = tuple(key for key in self.keys if key.id in key_ids)
        return Keyring(
            [key for key in self.keys if key not in leaving], (*leaving, *self.retired), self.signing, self.prepared
        )

    def without(self, key_id: str) -> Keyring:
        """One that has forgotten a retired key: what only that key opens is lost.

        Raises:
            KeyMissingError: there is no such key.
            ValueError: it is not retired.
        """
        if self.get(key_id) not in self.retired:
            raise ValueError(f"{key_id} is not retired; `homeport custody rotate-keys` retires keys that nothing needs")
        return Keyring(self.keys, [key for key in self.retired if key.id != key_id], self.signing, self.prepared)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._by_id)})"


class KeyringFile:
    """The keyring in a file, as the file is now.

    A replaced file that cannot be read is not taken: the keys from before stay in force, and `broken` says why.

    Args:
        path: of the file.

    Raises:
        KeyFileError: it is missing, cannot be trusted, or holds no keys.
    """

    __slots__ = ("_keyring", "_seen", "broken", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = _identity(path)  # before it is read: a change in between is seen the next time
        self._keyring = Keyring.from_file(path)
        self.broken: KeyFileError | None = None

    def current(self) -> Keyring:
        """The keys. It costs one `stat` while the file stays the same."""
        seen = _identity(self.path)
        if seen != self._seen:
            self._seen = seen
            try:
                self._keyring = Keyring.from_file(self.path)
                self.broken = None
            except KeyFileError as exc:
                self.broken = exc
        return self._keyring


def ensure_keyring(path: Path) -> None:
    """Have a keyring in `path`; one with a fresh key is written there when there is none.

    Raises:
        KeyFileError: the file cannot be made, or not be trusted.
    """
    text = ensure_secret(path, lambda: Keyring([new_wrapping_key()], signing=_new_signing_key()).dump())
    if Keyring.parse(text, str(path)).signing is None:
        _change(path, _with_signing)


def add_key(path: Path) -> str:
    """Put a key first, the newest prepared one or a fresh one, and give its id: what is sealed from now on needs it.

    Raises:
        KeyFileError: the file cannot be read or written.
    """
    key = new_wrapping_key()
    return _change(path, lambda keyring: keyring.with_first(key)).first.id


def prepare_key(path: Path) -> str:
    """Add a fresh key that opens, and will be the next to wrap; gives its id.

    Raises:
        KeyFileError: the file cannot be read or written.
    """
    key = new_wrapping_key()
    _change(path, lambda keyring: keyring.with_prepared(key))
    return key.id


def retire_keys(path: Path, key_ids: Sequence[str]) -> None:
    """Have those keys wrap nothing any more.

    Raises:
        KeyFileError: the file cannot be read or written, or one of them wraps.
        KeyMissingError: there is no such key.
    """
    _change(path, lambda keyring: keyring.with_retired(key_ids))


def forget_key(path: Path, key_id: str) -> None:
    """Take a retired key out of the file. What only that key opens is lost.

    Raises:
        KeyFileError: the file cannot be read or written, or the key is not retired.
        KeyMissingError: there is no such key.
    """
    _change(path, lambda keyring: keyring.without(key_id))


def _change(path: Path, change: Callable[[Keyring], Keyring]) -> Keyring:
    with _locked(path):
        try:
            changed = change(Keyring.from_file(path))
        except ValueError as exc:
            raise KeyFileError(f"{path}: {exc}") from None
        write_secret(path, changed.dump().reveal())
        return changed


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other changes of the file out; the lock is a file of its own, because this one is replaced."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise KeyFileError(f"{lock} cannot be opened: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    key: str

    def __repr__(self) -> str:
        return f"_Entry({self.id!r})"


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[_Entry]
    prepared: list[_Entry] = []
    retired: list[_Entry] = []
    signing: str | None = None

    def __repr__(self) -> str:
        return "_Document(***)"


def _new_signing_key() -> SecretBytes:
    return SecretBytes(secrets.token_bytes(KEY_LENGTH))


def _with_signing(keyring: Keyring) -> Keyring:
    return Keyring(keyring.keys, keyring.retired, keyring.signing or _new_signing_key(), keyring.prepared)


def _key(entry: _Entry) -> WrappingKey:
    return WrappingKey(entry.id, _raw(entry.key))


def _entry(key: WrappingKey) -> _Entry:
    return _Entry(key.id, _text(key.key))


def _raw(text: str) -> SecretBytes:
    try:
        return SecretBytes(base64.b64decode(text, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(f"a key is {KEY_LENGTH} bytes in base64url") from None


def _text(key: SecretBytes) -> str:
    return base64.urlsafe_b64encode(key.reveal()).decode()


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    """What tells one version of a file from the next; None while there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
