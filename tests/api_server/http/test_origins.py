"""Origins as browsers write them."""

from __future__ import annotations

import pytest

from api_server.http.origins import origin_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Api.Example.org", "https://api.example.org"),
        ("https://api.example.org:443/path?x#y", "https://api.example.org"),
        ("http://api.example.org:80", "http://api.example.org"),
        ("https://api.example.org:8443/", "https://api.example.org:8443"),
        ("http://[::1]:3721", "http://[::1]:3721"),
        ("http://[::1]", "http://[::1]"),
    ],
)
def test_the_origin_of_a_url(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["", "api.example.org", "ftp://x", "https://", "//x", "http://x:port"])
def test_what_has_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        origin_of(url)
