"""S5: signatures and keys, by everybody who has tried to get around them before."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OctKey

from api_server.auth.oidc.errors import InvalidIdTokenError, UnknownKeyError
from api_server.auth.oidc.jose import KeySet, verify
from tests.api_server.auth.oidc.provider import compact, ec_key, encode, okp_key, rsa_key, unsigned

CLAIMS = {"sub": "person-1"}


def key_set(*keys: Any) -> KeySet:
    members = [key if isinstance(key, dict) else dict(key.as_dict(private=False)) for key in keys]
    return KeySet(json.dumps({"keys": members}).encode())


KEYS = key_set(rsa_key(), ec_key(), okp_key())


def accepted(token: str, keys: KeySet = KEYS) -> bytes:
    return verify(token, keys, error=InvalidIdTokenError, types=(None, "jwt")).payload


def refused(token: str, keys: KeySet = KEYS) -> str:
    with pytest.raises((InvalidIdTokenError, UnknownKeyError)) as caught:
        accepted(token, keys)
    return caught.value.detail


@pytest.mark.parametrize(("key", "alg"), [(rsa_key(), "RS256"), (rsa_key(), "PS512"), (ec_key(), "ES256")])
def test_what_holds(key: Any, alg: str) -> None:
    assert json.loads(accepted(compact(CLAIMS, key, alg, kid=key.kid))) == CLAIMS
    assert json.loads(accepted(compact(CLAIMS, key, alg))) == CLAIMS  # the only key of its kind


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "null"])
def test_s5_alg_none(alg: str) -> None:
    for signature in (b"", b"x" * 64):
        assert "algorithm" in refused(unsigned({"alg": alg, "kid": "rsa"}, CLAIMS, signature))


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_s5_hs_for_rs_with_the_public_key_as_the_secret(alg: str) -> None:
    public = rsa_key().public_key
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(rsa_key().as_dict(private=False)).encode(),
    ):
        text = f"{encode({'alg': alg, 'kid': 'rsa'})}.{encode(CLAIMS)}"
        token = f"{text}.{encode(hmac.digest(secret, text.encode(), 'sha' + alg[2:]))}"
        assert "algorithm" in refused(token)


def test_s5_a_symmetric_key_that_is_published_is_no_key() -> None:
    keys = key_set({"kty": "oct", "k": encode(b"k" * 32), "kid": "oct"}, ec_key())
    assert len(keys) == 1
    assert refused(compact(CLAIMS, OctKey.import_key(b"k" * 32), "HS256", kid="oct"), keys)


def test_s5_the_kind_of_the_key_must_be_that_of_the_algorithm() -> None:
    ec = compact(CLAIMS, ec_key(), "ES256", kid="rsa")  # names the other key
    assert "no key" in refused(ec)
    header, payload, signature = compact(CLAIMS, rsa_key(), "RS256", kid="rsa").split(".")
    assert refused(f"{encode({'alg': 'ES256', 'kid': 'rsa'})}.{payload}.{signature}")
    assert refused(f"{encode({'alg': 'PS256', 'kid': 'rsa'})}.{payload}.{signature}")
    assert header


def test_s5_a_key_that_says_its_algorithm_is_used_for_no_other() -> None:
    keys = key_set({**ec_key().as_dict(private=False), "alg": "ES384"})
    assert "no key" in refused(compact(CLAIMS, ec_key(), "ES256", kid="ec"), keys)


@pytest.mark.parametrize(
    "kid",
    ["unknown", "", "../../../../dev/null", "rsa' OR '1'='1", "ec\u0000", "EC", "ec ", "a" * 10_000],
)
def test_s5_kid_tricks(kid: str) -> None:
    assert refused(compact(CLAIMS, ec_key(), "ES256", kid=kid))


def test_s5_a_kid_that_is_no_text() -> None:
    for kid in (7, ["ec"], {"a": 1}, True):
        assert refused(unsigned({"alg": "ES256", "kid": kid}, CLAIMS, b"x" * 64))


def test_s5_without_kid_the_key_must_be_the_only_one_of_its_kind() -> None:
    keys = key_set(ec_key(), ec_key("other"))
    assert "no key" in refused(compact(CLAIMS, ec_key(), "ES256"), keys)


def test_two_keys_under_one_kid_are_both_tried() -> None:
    keys = key_set({**ec_key("other").as_dict(private=False), "kid": "ec"}, ec_key())
    assert accepted(compact(CLAIMS, ec_key(), "ES256", kid="ec"), keys)


def test_s5_a_key_that_the_token_brings_along_is_not_looked_at() -> None:
    attacker = ec_key("attacker")
    public = dict(attacker.as_dict(private=False))
    for extra in ({"jwk": public}, {"jku": "https://evil.test/jwks"}, {"x5u": "https://evil.test/x"}):
        assert refused(compact(CLAIMS, attacker, "ES256", kid="ec", **extra))
        assert refused(compact(CLAIMS, attacker, "ES256", kid="attacker", **extra))


def test_s5_an_extension_that_must_be_understood_is_not() -> None:
    for header in ({"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": False}):
        assert "extension" in refused(unsigned({"alg": "ES256", "kid": "ec", **header}, CLAIMS, b"x" * 64))


def test_s5_a_changed_token() -> None:
    token = compact(CLAIMS, ec_key(), "ES256", kid="ec")
    header, payload, signature = token.split(".")
    other = encode({"sub": "somebody-else"})
    assert "signature" in refused(f"{header}.{other}.{signature}")
    assert "signature" in refused(f"{header}.{payload}.")
    assert "signature" in refused(f"{header}.{payload}.{encode(bytes(64))}")
    for cut in range(len(token)):
        assert refused(token[:cut])


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b", "a.b.c.d", "a.b.c.d.e", "é.b.c", "!.b.c", "e30.e30.e30", "W10.e30.e30", "x" * 20_000],
)
def test_s5_what_is_no_token(token: str) -> None:
    assert refused(token)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_s5_any_bytes_end_in_a_refusal(header: bytes, payload: bytes) -> None:
    assert refused(f"{encode(header)}.{encode(payload)}.{encode(b'x' * 64)}")


# Key sets


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b'{"keys": 7}', b'{"keys": {}}', b'{"keys": [', b"\xff", b'{"keys":[' + b"{}," * 100 + b"{}]}"],
)
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(ValueError, match="Key Set"):
        KeySet(document)


def test_s5_keys_that_are_left_out() -> None:
    ec = dict(ec_key().as_dict(private=False))
    modulus = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    weak = {"kty": "RSA", "n": encode(modulus.to_bytes(128)), "e": "AQAB"}
    assert len(key_set(ec)) == 1
    for key in (
        weak,
        {**ec, "use": "enc"},
        {**ec, "key_ops": ["encrypt"]},
        {**ec, "crv": "P-384"},
        {**ec, "crv": "secp256k1"},
        {**ec, "x": ec["y"]},
        {**ec, "x": "!"},
        {**ec, "x": 7},
        {"kty": "EC"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "n": "A" * 4000, "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed448", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "unknown"},
        [],
        7,
        None,
    ):
        document = json.dumps({"keys": [key, ec]}).encode()
        assert len(KeySet(document)) == 1, key


def test_a_private_key_that_is_published_by_mistake_still_verifies() -> None:
    keys = key_set(dict(ec_key().as_dict(private=True)))
    assert accepted(compact(CLAIMS, ec_key(), "ES256", kid="ec"), keys)
