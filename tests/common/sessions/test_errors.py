from __future__ import annotations

import re

import pytest

from common.errors import HomeportError
from common.sessions import errors
from common.sessions.errors import SessionStoreError


def kinds(base: type[SessionStoreError]) -> list[type[SessionStoreError]]:
    """All that are of a kind, at any depth, within this module."""
    direct = [kind for kind in base.__subclasses__() if kind.__module__ == errors.__name__]
    return direct + [deeper for kind in direct for deeper in kinds(kind)]


ALL = sorted(kinds(SessionStoreError), key=lambda kind: kind.__name__)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = set(re.findall(r"(\w+Error) +(\d{3}) (\w+)", errors.__doc__))
    assert drawn == {(kind.__name__, str(kind.status), kind.code) for kind in ALL}
    assert {kind.__name__ for kind in ALL} | {"SessionStoreError"} == set(errors.__all__)


def test_codes_are_stable_names_and_no_two_are_the_same() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", ALL)
def test_each_is_a_problem_object(kind: type[SessionStoreError]) -> None:
    error = kind("what was wrong", retry_after=2.0)
    assert isinstance(error, HomeportError)
    assert error.retry_after == 2.0
    assert error.problem() == {
        "type": f"urn:homeport:error:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": "what was wrong",
    }
    assert kind().problem()["detail"] == kind.title
