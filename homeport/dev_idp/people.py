"""The people who may be chosen, in a file that outlives the process."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import msgspec

from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import read_secret, write_secret
from homeport.dev_idp.errors import OAuthError

__all__ = ["DevPeople", "DevPerson"]

_MAX_PEOPLE = 100
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")


class DevPerson(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may sign in."""

    subject: str
    name: str
    email: str


class DevPeople:
    """Who there is.

    Args:
        path: of the file; it is made with the first person.

    Raises:
        KeyFileError: the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._people: dict[str, DevPerson] = {}
        if path.exists():
            try:
                people = msgspec.json.decode(read_secret(path).reveal(), type=list[DevPerson])
            except msgspec.MsgspecError as exc:
                raise KeyFileError(f"{path} is not what `homeport dev-idp` writes: {exc}") from exc
            self._people = {person.subject: person for person in people}

    def all(self) -> list[DevPerson]:
        """Everybody, in the order in which they came."""
        return list(self._people.values())

    def get(self, subject: str) -> DevPerson | None:
        """A person by their subject."""
        return self._people.get(subject)

    def add(self, name: str, email: str) -> DevPerson:
        """Somebody new; somebody who has that address already is renamed.

        Raises:
            KeyFileError: the file cannot be written.
            OAuthError: it is no name or no address, or there are too many.
        """
        name, email = " ".join(name.split()), email.strip()
        if not 0 < len(name) <= 100 or not name.isprintable() or _EMAIL.fullmatch(email) is None:
            raise OAuthError("invalid_request", "a person has a name and an e-mail address")
        known = next((each for each in self._people.values() if each.email == email), None)
        if known is None and len(self._people) >= _MAX_PEOPLE:
            raise OAuthError("invalid_request", f"there are {_MAX_PEOPLE} people already; see {self._path.name}")
        subject = known.subject if known is not None else f"dev-{secrets.token_hex(8)}"
        person = DevPerson(subject=subject, name=name, email=email)
        self._people[subject] = person
        write_secret(self._path, msgspec.json.encode(self.all()).decode() + "\n")
        return person
