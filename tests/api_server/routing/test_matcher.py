"""The longest prefix, in whole segments (G1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.gateway.errors import BadPathError
from api_server.gateway.paths import check_path
from api_server.http.errors import ValidationFailedError
from api_server.routing.matcher import PrefixMatcher
from api_server.routing.prefixes import normal_path, normal_prefix


def matcher(*prefixes: str) -> PrefixMatcher[str]:
    made: PrefixMatcher[str] = PrefixMatcher()
    for prefix in prefixes:
        made.put(prefix, prefix)
    return made


@pytest.mark.parametrize(
    ("path", "found", "rest"),
    [
        (b"/cameras", "/cameras", b""),
        (b"/cameras/", "/cameras", b"/"),
        (b"/cameras/front", "/cameras/front", b""),
        (b"/cameras/front/x/y", "/cameras/front", b"/x/y"),
        (b"/cameras/frontdoor", "/cameras", b"/frontdoor"),
        (b"/cameras-2", None, b""),
        (b"/camera", None, b""),
        (b"/Cameras", None, b""),
        (b"/", None, b""),
        (b"/x/cameras", None, b""),
        (b"/cameras;a=b", None, b""),
        (b"/%63ameras/%66ront/%78", "/cameras/front", b"/%78"),
        (b"/camer%61s", "/cameras", b""),
        (b"/caf%c3%a9/x", "/caf%C3%A9", b"/x"),
        (b"/caf%C3%A9", "/caf%C3%A9", b""),
        (b"/cameras/%20front", "/cameras", b"/%20front"),
    ],
)
def test_g1_whole_segments_longest_first(path: bytes, found: str | None, rest: bytes) -> None:
    matched = matcher("/cameras", "/cameras/front", "/a/b/c", "/caf%C3%A9").match(path)
    assert matched == (None if found is None else (found, len(path) - len(rest)))


def test_what_is_above_all_matches_what_nothing_else_does() -> None:
    both = matcher("/", "/a/b")
    assert both.match(b"/") == ("/", 0)
    assert both.match(b"/a") == ("/", 0)
    assert both.match(b"/a/bc") == ("/", 0)
    assert both.match(b"/a/b") == ("/a/b", 4)


def test_prefixes_come_and_go() -> None:
    one = matcher("/a", "/a/b/c", "/a/b/d")
    assert (len(one), one.get("/a/b"), one.get("/a/b/c"), one.get("/x")) == (3, None, "/a/b/c", None)
    for prefix in ("/a/b", "/x", "/"):
        one.remove(prefix)
    assert len(one) == 3
    one.remove("/a/b/c")
    assert one.match(b"/a/b/c") == ("/a", 2)
    assert one.match(b"/a/b/d") == ("/a/b/d", 6)
    one.remove("/a")
    one.remove("/a/b/d")
    assert (len(one), one.match(b"/a/b/d")) == (0, None)
    assert one._deepest == 0


def test_ten_thousand() -> None:
    many = matcher(*(f"/team-{number % 100}/service-{number}" for number in range(10_000)))
    assert len(many) == 10_000
    for number in (0, 1, 4711, 9999):
        path = f"/team-{number % 100}/service-{number}/x".encode()
        assert many.match(path) == (f"/team-{number % 100}/service-{number}", len(path) - 2)
    assert many.match(b"/team-1/service-2/x") is None


segment = st.sampled_from(["a", "b", "ab", "%61", "%C3%A9", "%c3%a9", "%20", "~"])
path_text = st.lists(segment, max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(prefixes=st.lists(path_text, max_size=8), gone=st.lists(path_text, max_size=4), path=path_text)
def test_g1_it_finds_what_looking_at_all_of_them_would(prefixes: list[str], gone: list[str], path: str) -> None:
    kept = {normal_prefix(each) for each in prefixes} - {normal_prefix(each) for each in gone}
    one = matcher(*(normal_prefix(each) for each in prefixes))
    for each in gone:
        one.remove(normal_prefix(each))
    normal = normal_path(path.encode()).decode()
    expected = max((each for each in kept if each == "/" or f"{normal}/".startswith(f"{each}/")), key=len, default=None)
    matched = one.match(path.encode())
    assert (None if matched is None else matched[0]) == expected
    if matched is not None:
        prefix, end = matched
        assert normal_path(path.encode()[:end]).decode() == prefix.rstrip("/")
        assert path.encode()[end:] == b"" or path.encode()[end : end + 1] == b"/"


@given(prefix=st.text(alphabet="/ab.%2fF5cC6;~-", max_size=12), path=st.text(alphabet="/ab.%2fF5cC6;~-", max_size=20))
def test_g1_no_trick_makes_a_path_match_what_it_does_not_say(prefix: str, path: str) -> None:
    try:
        kept = normal_prefix("/" + prefix)
        check_path(b"/" + path.encode())
    except (ValidationFailedError, BadPathError):
        return
    matched = matcher(kept).match(b"/" + path.encode())
    if matched is not None and kept != "/":
        assert f"{normal_path(b'/' + path.encode()).decode()}/".startswith(f"{kept}/")
