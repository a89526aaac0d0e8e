"""What the inspector takes for secret."""

from __future__ import annotations

import pytest

from api_server.inspector.redaction import is_secret, redacted_fields, redacted_target, redacted_text

TOKEN = "hp_" + "a" * 49


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-API-Key",
        "x_api_key",
        "apikey",
        "X-Auth",
        "X-Amz-Security-Token",
        "X-CSRF-Token",
        "client_secret",
        "password",
        "passwd",
        "refreshToken",
        "sessionId",
        "sig",
        "X-Hub-Signature-256",
        "privateKey",
    ],
)
def test_what_is(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["Host", "Accept", "Content-Type", "Keep-Alive", "author", "id", "X-Kind", "WWW-Authenticate", "design", "code"],
)
def test_what_is_not(name: str) -> None:
    assert not is_secret(name)


def test_fields() -> None:
    shown = redacted_fields([("Cookie", "a=b"), ("X-A", f"see {TOKEN}"), ("Host", "gw")])
    assert shown[0] == ("Cookie", "***")
    assert TOKEN not in shown[1][1]
    assert shown[2] == ("Host", "gw")


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/a", "/a"),
        ("/a?b=c&token=d&e", "/a?b=c&token=***&e"),
        ("/a?access%5Ftoken=d", "/a?access%5Ftoken=***"),
        ("/a?X-Amz-Signature=d&X-Amz-Date=e", "/a?X-Amz-Signature=***&X-Amz-Date=e"),
    ],
)
def test_targets(target: str, shown: str) -> None:
    assert redacted_target(target) == shown


@pytest.mark.parametrize(
    ("text", "media_type", "shown"),
    [
        ('{"a": 1}', "application/json", '{"a": 1}'),
        ('{"token": "x", "a": 1}', "application/json", '{"token":"***","a":1}'),
        ('[{"deep": {"secret": ["x", "y"]}}]', "application/json; charset=utf-8", '[{"deep":{"secret":"***"}}]'),
        ('{"password": true, "token": null}', "application/json", '{"password": true, "token": null}'),
        ('{"a": {"password": "x', "application/json", '{"a": {"password": "***"'),
        ('{"tokens": ["x", "y"], "a": ', "application/json", '{"tokens": "***", "a": '),
        ('{"password": "a\\"b", "c": 1', "application/problem+json", '{"password": "***", "c": 1'),
        ("user=ann&password=x%20y", "application/x-www-form-urlencoded", "user=ann&password=***"),
        ("password=x", "text/plain", "password=x"),
    ],
)
def test_bodies(text: str, media_type: str, shown: str) -> None:
    assert redacted_text(text, media_type) == shown


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "text/html", ""])
def test_what_looks_like_a_token_is_masked_wherever_it_stands(media_type: str) -> None:
    assert TOKEN not in redacted_text(f'{{"a": "{TOKEN}"}}', media_type)
