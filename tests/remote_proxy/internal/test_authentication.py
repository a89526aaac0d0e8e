from __future__ import annotations

import pytest

from common.secret import Secret
from remote_proxy.errors import UnauthenticatedError
from remote_proxy.internal.authentication import Authentication

KEY = "an-internal-key-of-forty-characters-long"


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_key_opens(header: str) -> None:
    Authentication(Secret(KEY)).check(header.encode())


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer{KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer \xe9",
    ],
)
def test_everything_else_does_not_and_the_reason_is_always_the_same(header: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        Authentication(Secret(KEY)).check(header.encode("latin-1") if header is not None else None)
    assert caught.value.detail == "internal HTTP takes the internal key as a bearer token"
    assert caught.value.status == 401


def test_with_mutual_tls_alone_the_certificate_has_been_checked_already() -> None:
    Authentication(None).check(None)
