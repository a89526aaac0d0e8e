"""Which paths can be prefixes of routes, and in which spelling they are kept (G1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.errors import BadPathError
from api_server.gateway.paths import check_path
from api_server.http.errors import ValidationFailedError
from api_server.routing.prefixes import ancestors, normal_path, normal_prefix


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/", "/"),
        ("/cameras", "/cameras"),
        ("/cameras/", "/cameras"),
        ("/a/b/c", "/a/b/c"),
        ("/%63ameras", "/cameras"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/v1.2/~x", "/v1.2/~x"),
        ("/dx", "/dx"),
        ("/d-2/x", "/d-2/x"),
        ("/x/d/y", "/x/d/y"),
    ],
)
def test_g1_a_prefix_has_one_spelling(text: str, kept: str) -> None:
    assert normal_prefix(text) == kept
    assert normal_prefix(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cameras",
        "//",
        "//cameras",
        "/a//b",
        "/a/../b",
        "/a/./b",
        "/..",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a/..;x/b",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0aX",
        "/a%",
        "/a%zz",
        "/a b",
        "/a?b",
        "/a#b",
        "/a\r\nb",
        "/café",
        "/a;b=c",
        "http://x/a",
        "/" + "a" * 250,
        "/d",
        "/d/",
        "/d/home/cam/web",
        "/%64/home",
        "/t",
        "/t/x",
        "/.homeport",
        "/.homeport/sign-in",
        "/.well-known/x",
    ],
)
def test_g1_a_path_that_two_could_read_apart_or_that_is_the_gateways_own_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailedError):
        normal_prefix(text)


@given(text=st.text(alphabet="/abdt.%2fF5cC6;~-", max_size=20))
def test_g1_whatever_is_kept_is_a_path_in_its_normal_form(text: str) -> None:
    try:
        kept = normal_prefix("/" + text)
    except ValidationFailedError:
        return
    check_path(kept.encode())
    assert normal_path(kept.encode()) == kept.encode()
    assert kept == "/" or not kept.endswith("/")


@given(path=st.binary(max_size=30))
def test_g1_a_normal_form_is_let_through_if_the_path_is(path: bytes) -> None:
    path = b"/" + path
    try:
        check_path(path)
    except BadPathError:
        return
    normal = normal_path(path)
    check_path(normal)
    assert normal_path(normal) == normal
    assert normal.count(b"/") == path.count(b"/")


def test_ancestors() -> None:
    assert ancestors("/") == []
    assert ancestors("/a") == []
    assert ancestors("/a/b/c") == ["/a", "/a/b"]
