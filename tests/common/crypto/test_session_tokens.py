"""Session tokens: what is accepted, and everything that is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from common.crypto.errors import ExpiredSessionTokenError, InvalidSessionTokenError, KeyFileError
from common.crypto.key_sets import ensure_key_pair, generate_key_pair
from common.crypto.keyfiles import write_public, write_secret
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner, SessionTokenVerifier
from common.ids import DeviceId, ServiceName, TeamId
from common.secret import Secret

NOW = 1_800_000_000.0

CLAIMS = SessionClaims(
    device=DeviceId("cam-1"),
    device_name="front-door",
    team=TeamId("home"),
    credential=CredentialId("crd_1"),
    issued_at=NOW,
    expires_at=NOW + 3600,
    service=ServiceName("web"),
)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signing_input(header: object, payload: object) -> str:
    """RFC 7515 section 5.1; bytes as they are, anything else as JSON."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return f"{encode(json.dumps(header).encode())}.{encode(body)}"


class Forger:
    """Signs whatever it is told to, by hand: an implementation of its own, with cryptography alone."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        members = {"crv": "Ed25519", "kty": "OKP", "x": encode(self.public)}
        # RFC 7638 section 3: the members in lexicographic order, without white space.
        self.kid = encode(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())
        self.verifier = SessionTokenVerifier(json.dumps({"keys": [members]}))

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"alg": "EdDSA", "typ": "homeport-session+jwt", "kid": self.kid, **changes}
        return {name: value for name, value in header.items() if value is not None}

    def payload(self, **changes: Any) -> dict[str, Any]:
        payload = {
            "iss": "homeport", "aud": "homeport-relay", "sub": "cam-1", "team": "home", "name": "front-door",
            "jti": "crd_1", "iat": NOW, "exp": NOW + 3600, **changes,
        }  # fmt: skip
        return {name: value for name, value in payload.items() if value is not ...}

    def sign(self, header: object, payload: object) -> str:
        signed = signing_input(header, payload)
        return f"{signed}.{encode(self.private.sign(signed.encode()))}"

    def token(self, **claims: Any) -> str:
        return self.sign(self.header(), self.payload(**claims))


FORGER = Forger()


def test_a_token_that_was_signed_verifies(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "private", tmp_path / "public")
    token = SessionTokenSigner.from_file(tmp_path / "private").sign(CLAIMS)
    assert isinstance(token, Secret)
    assert SessionTokenVerifier.from_file(tmp_path / "public").verify(token.reveal(), NOW) == CLAIMS


def test_the_header_says_algorithm_type_and_key(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "private", tmp_path / "public")
    signer = SessionTokenSigner.from_file(tmp_path / "private")
    header, payload, _ = signer.sign(CLAIMS).reveal().split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {
        "alg": "EdDSA",
        "typ": "homeport-session+jwt",
        "kid": signer.key_id,
    }
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims.keys() == {"iss", "aud", "sub", "team", "name", "jti", "iat", "exp", "service"}
    assert signer.key_id in SessionTokenVerifier.from_file(tmp_path / "public").key_ids


def test_a_token_of_another_implementation_verifies() -> None:
    claims = FORGER.verifier.verify(FORGER.token(), NOW)
    assert (claims.device, claims.service, claims.not_before) == ("cam-1", None, None)


def test_unknown_claims_are_ignored() -> None:
    assert FORGER.verifier.verify(FORGER.token(future={"a": [1]}), NOW).device == "cam-1"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "another"},
        {"iss": ...},
        {"iss": ["homeport"]},
        {"aud": "homeport-gateway"},
        {"aud": ...},
        {"aud": ["homeport-relay"]},
        {"sub": ...},
        {"sub": "../../etc"},
        {"sub": ""},
        {"sub": "A"},
        {"sub": "x" * 41},
        {"team": ...},
        {"team": "home--away"},
        {"name": "<script>"},
        {"jti": ""},
        {"jti": "x" * 65},
        {"jti": ...},
        {"exp": ...},
        {"exp": "never"},
        {"exp": None},
        {"exp": -1},
        {"exp": 1e300},
        {"exp": True},
        {"iat": ...},
        {"iat": NOW + 31},
        {"nbf": NOW + 31},
        {"nbf": "soon"},
        {"service": "a b"},
        {"service": 5},
    ],
    ids=str,
)
def test_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidSessionTokenError) as caught:
        FORGER.verifier.verify(FORGER.token(**claims), NOW)
    assert caught.value.code == "invalid_session_token"
    assert caught.value.status == 401


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 2000, b'{"exp":1e999}'])
def test_a_payload_that_is_no_claims_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidSessionTokenError):
        FORGER.verifier.verify(FORGER.sign(FORGER.header(), payload), NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": ""},
        {"alg": None},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"alg": "Ed448"},
        {"alg": ["EdDSA"]},
        {"alg": {"EdDSA": 1}},
        {"alg": 5},
        {"typ": "JWT"},
        {"typ": None},
        {"kid": None},
        {"kid": "unknown"},
        {"kid": ["list"]},
        {"kid": 5},
        {"crit": ["exp"]},
        {"crit": "x"},
        {"b64": False, "crit": ["b64"]},
        {"jku": "https://evil.example/keys"},
        {"jwk": {"kty": "OKP"}},
        {"x5u": "https://evil.example"},
        {"cty": "JWT"},
    ],
    ids=str,
)
def test_a_wrong_header_is_refused_though_the_signature_is_right(header: dict[str, Any]) -> None:
    with pytest.raises(InvalidSessionTokenError):
        FORGER.verifier.verify(FORGER.sign(FORGER.header(**header), FORGER.payload()), NOW)


@pytest.mark.parametrize("header", [[], None, "EdDSA", 5, {}])
def test_a_header_that_is_no_object_is_refused(header: object) -> None:
    with pytest.raises(InvalidSessionTokenError):
        FORGER.verifier.verify(FORGER.sign(header, FORGER.payload()), NOW)


def test_no_signature_at_all_is_refused() -> None:
    for algorithm in ("none", "EdDSA"):
        unsigned = signing_input(FORGER.header(alg=algorithm), FORGER.payload()) + "."
        with pytest.raises(InvalidSessionTokenError):
            FORGER.verifier.verify(unsigned, NOW)


@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_an_hmac_keyed_with_the_public_key_is_refused(algorithm: str) -> None:
    """The confusion of RFC 8725 section 2.1: the public key is known, so as an HMAC key it proves nothing."""
    signed = (
        f"{encode(json.dumps(FORGER.header(alg=algorithm)).encode())}.{encode(json.dumps(FORGER.payload()).encode())}"
    )
    for key in (FORGER.public, encode(FORGER.public).encode()):
        mac = hmac.digest(key, signed.encode(), hashlib.sha256)
        with pytest.raises(InvalidSessionTokenError):
            FORGER.verifier.verify(f"{signed}.{encode(mac)}", NOW)


def test_another_key_is_refused_even_under_our_key_id() -> None:
    stranger = Forger()
    stranger.kid = FORGER.kid
    with pytest.raises(InvalidSessionTokenError, match="signature"):
        FORGER.verifier.verify(stranger.token(), NOW)


def test_time_limits() -> None:
    verify = FORGER.verifier.verify
    token = FORGER.token(nbf=NOW)
    assert verify(token, NOW + 3599.9).expires_at == NOW + 3600
    with pytest.raises(ExpiredSessionTokenError) as caught:
        verify(token, NOW + 3600)
    assert caught.value.code == "session_token_expired"
    assert verify(token, NOW - 30).device == "cam-1", "the clocks may differ by half a minute"
    with pytest.raises(InvalidSessionTokenError):
        verify(token, NOW - 31)


def test_a_forged_token_that_is_also_expired_is_not_called_expired() -> None:
    stranger = Forger()
    stranger.kid = FORGER.kid
    with pytest.raises(InvalidSessionTokenError) as caught:
        FORGER.verifier.verify(stranger.token(exp=NOW - 1), NOW)
    assert not isinstance(caught.value, ExpiredSessionTokenError)


def test_an_oversized_token_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidSessionTokenError, match="4096"):
        FORGER.verifier.verify(FORGER.token(padding="x" * 4096), NOW)


@given(st.integers(0, 400))
def test_a_truncated_token_is_refused(length: int) -> None:
    token = FORGER.token()
    with pytest.raises(InvalidSessionTokenError):
        FORGER.verifier.verify(token[: min(length, len(token) - 1)], NOW)


@given(position=st.integers(0, 10_000), character=st.sampled_from("ABCxyz019-_.=+/ "))
def test_a_token_with_one_changed_character_is_refused(position: int, character: str) -> None:
    token = FORGER.token()
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        with pytest.raises(InvalidSessionTokenError):
            FORGER.verifier.verify(changed, NOW)


@given(st.text(max_size=5000))
@example("")
@example("..")
@example("....")
@example("a.b.c")
@example("eyJ.\x00.")
@example("\ud800")
def test_no_text_makes_the_verifier_raise_anything_else(text: str) -> None:
    with pytest.raises(InvalidSessionTokenError):
        FORGER.verifier.verify(text, NOW)


HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "x"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HEADER_NAMES, inner),
        max_leaves=8,
    )
)
def test_no_header_makes_the_verifier_raise_anything_else(header: object) -> None:
    with pytest.raises(InvalidSessionTokenError):
        FORGER.verifier.verify(FORGER.sign(header, FORGER.payload()), NOW)


def test_no_error_quotes_the_token() -> None:
    stranger = Forger()
    for token in (
        stranger.token(),
        FORGER.token(sub="secret-device-name!"),
        FORGER.token()[:-5],
        "secret.secret.secret",
    ):
        with pytest.raises(InvalidSessionTokenError) as caught:
            FORGER.verifier.verify(token, NOW)
        shown = str(caught.value) + json.dumps(caught.value.problem())
        assert not any(part and part in shown for part in token.split("."))
        assert "secret" not in shown


# Key files


def test_a_new_key_is_accepted_once_it_is_in_the_file_and_an_old_one_no_longer(tmp_path: Path) -> None:
    public = tmp_path / "public"
    old, new = Forger(), Forger()

    def publish(*forgers: Forger) -> None:
        keys = [{"kty": "OKP", "crv": "Ed25519", "x": encode(forger.public)} for forger in forgers]
        write_public(public, json.dumps({"keys": keys}))

    publish(old)
    verifier = SessionTokenVerifier.from_file(public)
    verifier.verify(old.token(), NOW)
    with pytest.raises(InvalidSessionTokenError, match="not known here"):
        verifier.verify(new.token(), NOW)
    publish(old, new)
    verifier.verify(new.token(), NOW)  # at once: the key id is unknown
    verifier.verify(old.token(), NOW)
    publish(new)
    with pytest.raises(InvalidSessionTokenError, match="not known here"):
        verifier.verify(old.token(), NOW + 1)  # within a second: the key id is known
    assert verifier.key_ids == {new.kid}
    assert verifier.reload_error is None


@pytest.mark.parametrize("content", ["", "{", '{"keys": []}'])
def test_a_file_that_became_unusable_leaves_the_keys_in_use(tmp_path: Path, content: str) -> None:
    public = tmp_path / "public"
    write_public(public, json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": encode(FORGER.public)}]}))
    verifier = SessionTokenVerifier.from_file(public)
    write_public(public, content)
    assert verifier.verify(FORGER.token(), NOW).device == "cam-1"
    assert verifier.reload_error is not None
    assert str(public) in verifier.reload_error.detail
    public.unlink()
    assert verifier.verify(FORGER.token(), NOW + 5).device == "cam-1"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": []}',
        '{"keys": [5]}',
        '{"keys": [{}]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}]}',
        '{"keys": [{"kty": "OKP", "crv": "X25519", "x": "AAAA"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "%%%"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "' + encode(b"1" * 32) + '", "use": "enc"}]}',
    ],
)
def test_what_is_no_key_set_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    write_secret(path, content + " " * 16)
    for read in (SessionTokenVerifier.from_file, SessionTokenSigner.from_file):
        with pytest.raises(KeyFileError) as caught:
            read(path)
        assert str(path) in caught.value.detail
        assert "c2VjcmV0" not in caught.value.detail


def test_a_public_key_cannot_sign(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "private", tmp_path / "public")
    public = (tmp_path / "public").read_text()
    with pytest.raises(KeyFileError, match="no private"):
        SessionTokenSigner(Secret(public))


def test_the_public_file_holds_no_private_key(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "private", tmp_path / "public")
    (private,) = json.loads((tmp_path / "private").read_text())["keys"]
    assert private["d"] not in (tmp_path / "public").read_text()
    assert os.stat(tmp_path / "private").st_mode & 0o777 == 0o600


def test_generating_does_not_overwrite_a_key_in_use(tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "private", tmp_path / "public")
    before = (tmp_path / "private").read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        generate_key_pair(tmp_path / "private", tmp_path / "public")
    assert (tmp_path / "private").read_bytes() == before


def test_ensure_makes_a_pair_once_and_mends_a_lost_public_file(tmp_path: Path) -> None:
    private, public = tmp_path / "private", tmp_path / "public"
    ensure_key_pair(private, public)
    before = private.read_bytes(), public.read_bytes()
    ensure_key_pair(private, public)
    assert (private.read_bytes(), public.read_bytes()) == before
    public.unlink()
    ensure_key_pair(private, public)
    assert public.read_bytes() == before[1]


def test_ensure_keeps_retired_keys_and_replaces_those_of_another_pair(tmp_path: Path) -> None:
    private, public = tmp_path / "private", tmp_path / "public"
    ensure_key_pair(private, public)
    signer = SessionTokenSigner.from_file(private)
    keys = json.loads(public.read_text())["keys"]
    retired = {"kty": "OKP", "crv": "Ed25519", "x": encode(FORGER.public)}
    write_public(public, json.dumps({"keys": [*keys, retired]}))
    ensure_key_pair(private, public)
    assert SessionTokenVerifier.from_file(public).key_ids == {signer.key_id, FORGER.kid}
    write_public(public, json.dumps({"keys": [retired]}))
    ensure_key_pair(private, public)
    assert SessionTokenVerifier.from_file(public).key_ids == {signer.key_id}
