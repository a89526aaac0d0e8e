"""Docstrings of fields."""

from __future__ import annotations

import msgspec

from api_server.http.descriptions import field_descriptions, structs_in


class Inner(msgspec.Struct):
    """Inside."""

    depth: int
    """How deep it is,
    in metres."""
    plain: str


class Outer(Inner):
    inner: list[Inner] | None = None
    """More of it."""
    by_name: dict[str, tuple[Inner, ...]] = {}


def test_the_docstring_below_a_field_describes_it() -> None:
    assert field_descriptions(Inner) == {"depth": "How deep it is, in metres."}


def test_those_of_a_base_are_inherited() -> None:
    assert field_descriptions(Outer) == {"depth": "How deep it is, in metres.", "inner": "More of it."}


def test_a_struct_without_source_has_none() -> None:
    assert field_descriptions(msgspec.defstruct("Made", [("field", int)])) == {}


def test_structs_are_found_wherever_they_are_and_once() -> None:
    assert sorted(struct.__name__ for struct in structs_in([list[Outer], int])) == ["Inner", "Outer"]
