"""Values with references: they are data, and reach nothing but the fields of a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.broker.errors import RealmInvalidError
from api_server.broker.templates import references, rendered

FIELDS = {"key_1": "one", "key_2": "$key_1", "client_id": "id"}


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("", ""),
        ("client_credential", "client_credential"),
        ("$key_1", "one"),
        ("${key_1}2", "one2"),
        ("a$client_id-$key_1", "aid-one"),
        ("$$key_1", "$key_1"),
        ("$$$key_1$$", "$one$"),
        ("$key_2", "$key_1"),  # a value is not a template
    ],
)
def test_a_template(template: str, result: str) -> None:
    assert rendered(template, FIELDS) == result


@pytest.mark.parametrize(
    "template", ["$", "a$", "$1", "$Key", "${", "${}", "${key_1", "${key-1}", "$ key", "${a.b}", "$."]
)
def test_a_lone_dollar_sign_is_refused(template: str) -> None:
    with pytest.raises(RealmInvalidError):
        references(template)


@pytest.mark.parametrize("name", ["__class__", "__init__", "_secret", "key_1__", "format", "constructor"])
def test_no_property_can_be_reached(name: str) -> None:
    assert references(f"${name}") == [name]
    with pytest.raises(KeyError):
        rendered(f"${name}", FIELDS)


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    assert rendered(text.replace("$", "$$"), {}) == text
