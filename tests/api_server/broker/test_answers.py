"""What is sent to a provider, and what its answers mean: B4, B6."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from api_server.broker.answers import Obtained, ProviderAnswerError, interpret
from api_server.broker.breaker import TRANSITIONS, Breaker, Event, State
from api_server.broker.errors import RealmInvalidError, RealmSecretInvalidError
from api_server.broker.paths import MISSING, check_path, look_up
from api_server.broker.presets import PRESETS, config_of
from api_server.broker.records import RealmConfig
from api_server.broker.requests import build_request, check_config, check_fields
from api_server.broker.schedule import due_at, retry_at
from api_server.outbound.errors import TargetRefusedError
from api_server.outbound.policy import TargetPolicy

NOW = 1_700_000_000.0
URL = "https://provider.test/token"


def config(**given: Any) -> RealmConfig:
    return config_of({"url": URL, **given})


def read(realm: RealmConfig, document: Any, status: int = 200, **headers: str) -> Obtained:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return interpret(realm, status, headers, body, now=NOW, secrets=["hunter2"])


def failure(realm: RealmConfig, document: Any, status: int = 200, **headers: str) -> ProviderAnswerError:
    with pytest.raises(ProviderAnswerError) as caught:
        read(realm, document, status, **headers)
    assert "hunter2" not in f"{caught.value.code} {caught.value.detail}"
    return caught.value


def test_the_arguments_go_where_they_are_told() -> None:
    realm = config(
        method="POST",
        url=URL + "?v=1",
        content_type="form",
        fields=["id"],
        arguments=[
            {"name": "a b", "place": "url", "value": "$key_1&x"},
            {"name": "X-Id", "place": "header", "value": "id=$id"},
            {"name": "grant_type", "place": "body", "value": "client_credentials"},
            {"name": "secret", "place": "body", "value": "$key_1"},
        ],
    )
    request = build_request(realm, {"key_1": "s=1", "id": "me"})
    assert request.url == URL + "?v=1&a+b=s%3D1%26x"
    assert request.headers["X-Id"] == "id=me"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.body == b"grant_type=client_credentials&secret=s%3D1"
    assert "s=1" not in repr(request)
    masked = build_request(realm, None)
    assert (masked.url, masked.headers["X-Id"]) == (URL + "?v=1&a+b=***%26x", "id=***")
    assert masked.body == b"grant_type=client_credentials&secret=***"


@pytest.mark.parametrize(
    ("content_type", "body"), [("json", b'{"a":"1","b":"\\"2\\""}'), ("form", b"a=1&b=%222%22"), ("text", b'1\n"2"')]
)
def test_bodies(content_type: str, body: bytes) -> None:
    arguments = [{"name": "a", "place": "body", "value": "1"}, {"name": "b", "place": "body", "value": "$key_1"}]
    realm = config(method="POST", content_type=content_type, arguments=arguments)
    assert build_request(realm, {"key_1": '"2"'}).body == body


def test_client_authentication_is_as_oauth_wants_it() -> None:
    """RFC 6749 section 2.3.1: each part is encoded as in a form."""
    realm = config(client_auth={"username": "$key_1", "password": "$key_2"})
    sent = build_request(realm, {"key_1": "a:b", "key_2": "p w\u00e9"}).headers["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"a%3Ab:p+w%C3%A9"
    assert build_request(realm, None).headers["Authorization"] == "Basic ***"


@pytest.mark.parametrize(
    "given",
    [
        {"arguments": [{"name": "a", "place": "url", "value": "$client_id"}]},
        {"arguments": [{"name": "a", "place": "url", "value": "$key_6"}]},
        {"arguments": [{"name": "a", "place": "url", "value": "$__class__"}]},
        {"arguments": [{"name": "a", "place": "url", "value": "$"}]},
        {"arguments": [{"name": "a", "place": "body", "value": "x"}]},
        {"arguments": [{"name": "Host", "place": "header", "value": "x"}]},
        {"arguments": [{"name": "Content-Length", "place": "header", "value": "x"}]},
        {"arguments": [{"name": "a b", "place": "header", "value": "x"}]},
        {"arguments": [{"name": "A", "place": "header", "value": "x\r\nY: z"}]},
        {
            "client_auth": {"username": "a", "password": "b"},
            "arguments": [{"name": "authorization", "place": "header", "value": "x"}],
        },
        {"client_auth": {"username": "$nobody", "password": "b"}},
        {"fields": ["key_1"]},
        {"fields": ["Client"]},
        {"token_path": "a..b"},
        {"token_path": "/a~2"},
        {"expires_in_path": "."},
        {"success": {"path": "a..b", "values": [0]}},
        {"token": "$key_1"},
        {"kind": "fixed"},
        {"kind": "fixed", "token": "constant"},
    ],
)
def test_a_realm_that_cannot_be_used_is_refused_when_it_is_saved(given: dict[str, Any]) -> None:
    with pytest.raises(RealmInvalidError):
        check_config(config(**given), TargetPolicy())


@pytest.mark.parametrize("given", [{"preset": "nobody"}, {"method": "PUT"}, {"timeout": 0}, {"unknown": 1}])
def test_a_configuration_that_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(RealmInvalidError):
        config(**given)


@pytest.mark.parametrize("url", ["", "http://provider.test/", "https://127.0.0.1/", "https://169.254.169.254/"])
def test_g3_a_url_that_can_be_no_target(url: str) -> None:
    with pytest.raises(TargetRefusedError):
        check_config(config(url=url), TargetPolicy())


def test_a_secret_must_have_what_its_realm_refers_to() -> None:
    realm = config(fields=["id"], arguments=[{"name": "X", "place": "header", "value": "$key_1 $id"}])
    check_fields(realm, {"key_1": "a", "id": "b", "key_5": "unused"})
    for fields in (
        {"key_1": "a"},
        {"key_1": "", "id": "b"},
        {"key_1": "a", "id": "b", "x": "y"},
        {"key_1": "a\n", "id": "b"},
    ):
        with pytest.raises(RealmSecretInvalidError):
            check_fields(realm, fields)


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_can_be_used(name: str) -> None:
    realm = config_of({"preset": name} if name.startswith("wechat") else {"preset": name, "url": URL})
    assert check_config(realm, TargetPolicy()).startswith("https://")
    assert realm.preset == name


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", 1),
        ("b.c", "x"),
        ("/b/c", "x"),
        ("b.d.0", 2),
        ("/b/d/1/e", 3),
        ("/f~1g", 4),
        ("/h~0", 5),
        ("/", 6),
        ("b.d.2", MISSING),
        ("b.d.-1", MISSING),
        ("b.d.01", MISSING),
        ("a.real", MISSING),
        ("b.c.0", MISSING),
        ("b.keys", MISSING),
        ("z", MISSING),
        ("/f/g", MISSING),
    ],
)
def test_paths(path: str, found: Any) -> None:
    document = {"a": 1, "b": {"c": "x", "d": [2, {"e": 3}]}, "f/g": 4, "h~": 5, "": 6}
    check_path(path)
    assert look_up(document, path) == found


def test_a_token() -> None:
    got = read(config(), {"access_token": "t", "expires_in": 7200})
    assert (got.token.reveal(), got.token_type, got.life, got.said_life) == ("t", "Bearer", 7200, True)
    nested = config(token_path="/data/token", token_type_path="data.kind", expires_in_path="data.ttl")
    got = read(nested, {"data": {"token": "t", "kind": "MAC", "ttl": "60"}})
    assert (got.token.reveal(), got.token_type, got.life) == ("t", "MAC", 60)
    assert read(config(answer="form"), b"access_token=t&expires_in=5").life == 5
    assert read(config(answer="text"), b" t \n").token.reveal() == "t"
    assert read(config(expires_in_unit="milliseconds"), {"access_token": "t", "expires_in": 5000}).life == 5
    absolute = config(expires_at_path="until")
    assert read(absolute, {"access_token": "t", "until": NOW + 90, "expires_in": 5}).life == 90
    assert read(absolute, {"access_token": "t", "until": NOW - 1, "expires_in": 5}).life == 5


@pytest.mark.parametrize(
    "said", [{}, *({"expires_in": each} for each in (None, 0, -1, "soon", "", True, [], 1e300, "nan", "inf", 10**30))]
)
def test_b6_a_life_that_is_missing_or_nonsense_is_the_default(said: dict[str, Any]) -> None:
    got = read(config(default_life=77), {"access_token": "t", **said})
    assert (got.life, got.said_life) == (77, False)


def test_b6_an_error_inside_200_is_found_by_the_rule() -> None:
    realm = config(success={"path": "errcode", "values": [0]}, message_path="errmsg")
    wrong = failure(realm, {"errcode": 45009, "errmsg": "over quota for hunter2", "access_token": "x"})
    assert (wrong.code, wrong.detail, wrong.refused) == ("45009", "over quota for ***", False)
    for fine in ({"errcode": 0}, {"errcode": "0"}, {"errcode": 0.0}, {}):
        assert read(realm, {"access_token": "t", **fine})


def test_b4_only_the_word_of_the_provider_marks_a_secret_as_refused() -> None:
    realm = config(refusal={"path": "errcode", "values": [40001]})
    assert failure(realm, {"errcode": 40001}).refused
    for status in (400, 401):
        for error in ("invalid_client", "invalid_grant"):
            assert failure(realm, {"error": error, "error_description": "hunter2"}, status).refused
    assert failure(realm, {"error": "invalid_client"}).refused
    for document, status in (
        ({"error": "invalid_request"}, 400),
        ({"error": "invalid_client"}, 500),
        ({"error": "temporarily_unavailable"}, 503),
        ({"errcode": -1}, 200),
        (b"<html>", 401),
        (b"", 200),
        ({"errcode": 40001}, 502),
    ):
        assert not failure(realm, document, status).refused


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b"<html>", b"[" * 10_000, b'{"access_token": 7}', b'{"access_token": "a\\nb"}']
)
def test_an_answer_without_a_token(body: bytes) -> None:
    assert not failure(config(), body).certain


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("99999", 3600),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10),
        ("soon", None),
        ("", None),
        ("-5", None),
    ],
)
def test_b3_retry_after(said: str, seconds: float | None) -> None:
    assert failure(config(), {}, 429, **{"retry-after": said}).retry_after == seconds


def test_b2_the_margin_is_a_fifth_of_the_life_at_most_with_jitter() -> None:
    rng = random.Random(1)
    for life, margin, most in ((7200, 300, 300), (100, 300, 20), (3600, 0, 0)):
        due = [due_at(NOW, life, margin, rng) for _ in range(200)]
        assert all(NOW + life - most <= each <= NOW + life - most * 0.8 for each in due)
        assert len(set(due)) > 100 or not most


def test_b3_failures_are_remembered_for_a_second_and_at_most_a_minute() -> None:
    assert [retry_at(NOW, each, None) - NOW for each in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]
    assert retry_at(NOW, 1, 7) - NOW == 7
    assert retry_at(NOW, 7, 7) - NOW == 60


def test_the_breaker_knows_what_to_do_in_every_state() -> None:
    impossible = {
        (State.CLOSED, Event.TIME_IS_UP),
        (State.OPEN, Event.FAILED_TOO_OFTEN),
        (State.PROBING, Event.FAILED_TOO_OFTEN),
        (State.PROBING, Event.TIME_IS_UP),
    }
    assert {(state, event) for state in State for event in Event} - set(TRANSITIONS) == impossible


def test_b3_a_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker(threshold=3, first=5, longest=15)
    for _ in range(2):
        assert breaker.admit(0) == 0
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(3):
        assert breaker.admit(0) == 0
        breaker.failed(0)
    assert (breaker.state, breaker.admit(1)) == (State.OPEN, 4)
    for at, pause in ((5, 10), (15, 15), (30, 15)):
        assert breaker.admit(at) == 0
        assert breaker.state is State.PROBING
        assert breaker.admit(at) > 0  # one at a time
        breaker.failed(at)
        assert breaker.admit(at) == pause
    assert breaker.admit(45) == 0
    breaker.forgotten(45)
    assert breaker.admit(45) == 0
    breaker.succeeded()
    assert breaker.state is State.CLOSED
    assert repr(breaker) == "<Breaker: closed, 0 failures>"
