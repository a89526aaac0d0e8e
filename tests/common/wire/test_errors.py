"""The error tree is what its docstring draws."""

from __future__ import annotations

import pytest

import common.wire.errors as errors
from common.errors import HomeportError
from common.wire import WireError


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_is_drawn_and_has_a_code_of_its_own(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, WireError)
    assert issubclass(error, HomeportError)
    assert errors.__doc__ is not None
    assert name in errors.__doc__
    codes = [getattr(errors, other).code for other in errors.__all__]
    assert codes.count(error.code) == 1
    assert error.code.startswith("wire_")


def test_a_problem_holds_the_code() -> None:
    assert errors.InvalidMessageError("a map").problem() == {
        "type": "urn:homeport:error:wire_message_invalid",
        "title": "A message of the tunnel is invalid",
        "status": 502,
        "code": "wire_message_invalid",
        "detail": "a map",
    }
