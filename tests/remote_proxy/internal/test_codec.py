from __future__ import annotations

import contextlib
import json

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.sessions.errors import OverCapacityError
from remote_proxy.errors import BadRequestError
from remote_proxy.internal.api import Revocation, RevocationList
from remote_proxy.internal.codec import JSON, MSGPACK, codec_for, decode
from tests.remote_proxy.fakes import FakeTunnel

GOOD = {"kind": "device", "team": "home", "expires_at": 1_795_000_000.0}


@pytest.mark.parametrize("accept", ["", "*/*", MSGPACK, f"{JSON}, {MSGPACK}", "text/html"])
def test_msgpack_unless_json_is_asked_for(accept: str) -> None:
    summary = FakeTunnel("cam", 1).describe()
    codec = codec_for(accept)
    assert codec.content_type == MSGPACK
    assert msgpack.unpackb(codec.encode(summary)) == msgspec.to_builtins(summary)


def test_json_when_it_is_asked_for() -> None:
    codec = codec_for("application/json;q=0.9")
    assert codec.content_type == JSON
    assert json.loads(codec.encode({"closed": True})) == {"closed": True}


def test_a_problem_is_said_in_the_same_codec() -> None:
    error = OverCapacityError("full")
    assert msgpack.unpackb(codec_for("").encode_problem(error)) == error.problem()
    assert json.loads(codec_for(JSON).encode_problem(error)) == error.problem()
    assert codec_for(JSON).problem_type == "application/problem+json"


@pytest.mark.parametrize("content_type", [MSGPACK, "", "application/octet-stream"])
def test_a_body_is_msgpack_unless_it_says_json(content_type: str) -> None:
    assert decode(msgpack.packb(GOOD), content_type, Revocation).team == "home"


def test_a_body_may_be_json() -> None:
    assert decode(json.dumps(GOOD).encode(), JSON, Revocation).kind == "device"


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {**GOOD, "kind": "team"},
        {**GOOD, "expires_at": -1},
        {**GOOD, "expires_at": "tomorrow"},
        {**GOOD, "team": 7},
    ],
)
@pytest.mark.parametrize("content_type", [MSGPACK, JSON])
def test_a_body_that_says_something_else_is_refused(value: object, content_type: str) -> None:
    body = json.dumps(value).encode() if content_type == JSON else msgpack.packb(value)
    with pytest.raises(BadRequestError):
        decode(body, content_type, Revocation)


@given(body=st.binary(max_size=200), content_type=st.sampled_from([MSGPACK, JSON]))
def test_no_body_raises_anything_else(body: bytes, content_type: str) -> None:
    with contextlib.suppress(BadRequestError):
        assert isinstance(decode(body, content_type, RevocationList), RevocationList)


def test_deep_nesting_is_refused() -> None:
    for body, content_type in [(b"\x91" * 100_000 + b"\xc0", MSGPACK), (b"[" * 100_000, JSON)]:
        with pytest.raises(BadRequestError):
            decode(body, content_type, RevocationList)
