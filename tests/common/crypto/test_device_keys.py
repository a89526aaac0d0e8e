"""A device's key and its proofs: P3."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from common.crypto.device_keys import MAX_AGE, DeviceKey, Purpose, check_proof, is_public_key, thumbprint
from common.crypto.errors import InvalidProofError, StaleProofError
from common.secret import Secret

NOW = 1_800_000_000.0
KEY = DeviceKey(Secret("A" * 43))
PROOF = KEY.prove(Purpose.RENEW, "dev-1", NOW)


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_p3_a_proof_holds_for_its_key_purpose_and_subject() -> None:
    said = check_proof(KEY.public, PROOF, Purpose.RENEW, "dev-1", NOW)
    assert (said.aud, said.sub, said.iat) == ("homeport-renew", "dev-1", NOW)
    assert check_proof(KEY.public, KEY.prove(Purpose.RENEW, "dev-1", NOW), Purpose.RENEW, "dev-1", NOW).jti != said.jti


def test_a_key_comes_back_from_its_private_part() -> None:
    key = DeviceKey.generate()
    assert DeviceKey(key.private).public == key.public
    assert key.public != DeviceKey.generate().public
    assert "AAAA" not in repr(KEY.private)


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    # Appendix A.3.
    assert thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("private", ["", "A", "A" * 42, "A" * 44, "!" * 43, "A" * 10_000])
def test_what_is_no_key_is_refused(private: str) -> None:
    with pytest.raises(ValueError, match="not the private key") as caught:
        DeviceKey(Secret(private))
    assert len(private) < 2 or private not in str(caught.value)


def test_p3_another_key_purpose_or_subject_is_refused() -> None:
    for public, purpose, subject in (
        (DeviceKey.generate().public, Purpose.RENEW, "dev-1"),
        (KEY.public, Purpose.PAIR, "dev-1"),
        (KEY.public, Purpose.RENEW, "dev-2"),
    ):
        with pytest.raises(InvalidProofError):
            check_proof(public, PROOF, purpose, subject, NOW)


@pytest.mark.parametrize("offset", [-MAX_AGE - 1, MAX_AGE + 1])
def test_p3_a_proof_from_another_time_says_so(offset: float) -> None:
    with pytest.raises(StaleProofError, match="Date"):
        check_proof(KEY.public, PROOF, Purpose.RENEW, "dev-1", NOW + offset)


@pytest.mark.parametrize("offset", [-MAX_AGE, 0, MAX_AGE])
def test_the_clocks_may_differ_a_little(offset: float) -> None:
    check_proof(KEY.public, PROOF, Purpose.RENEW, "dev-1", NOW + offset)


@pytest.mark.parametrize(
    "header",
    [{"alg": "none", "typ": "homeport-proof+jwt"}, {"alg": "HS256", "typ": "homeport-proof+jwt"}, {"alg": "EdDSA"}, []],
)
def test_p3_another_algorithm_or_type_is_refused(header: object) -> None:
    _, payload, signature = PROOF.split(".")
    with pytest.raises(InvalidProofError):
        check_proof(KEY.public, f"{_b64(header)}.{payload}.{signature}", Purpose.RENEW, "dev-1", NOW)


@pytest.mark.parametrize("jti", ["x" * 15 + "\0", "x" * 65, "x" * 15, "x" * 15 + "\n", "ä" * 16])
def test_p3_a_number_that_cannot_be_kept_is_refused(jti: str) -> None:
    """Whoever makes the proof chooses its number, and the database has to keep it."""
    payload = _b64({"aud": "homeport-renew", "sub": "dev-1", "iat": NOW, "jti": jti})
    signed = f"{_b64({'alg': 'EdDSA', 'typ': 'homeport-proof+jwt'})}.{payload}"
    raw = base64.urlsafe_b64decode(KEY.private.reveal() + "=")
    signature = Ed25519PrivateKey.from_private_bytes(raw).sign(signed.encode())
    proof = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    with pytest.raises(InvalidProofError, match="payload"):
        check_proof(KEY.public, proof, Purpose.RENEW, "dev-1", NOW)


def test_p3_a_changed_payload_is_refused() -> None:
    head, _, signature = PROOF.split(".")
    payload = _b64({"aud": "homeport-renew", "sub": "dev-2", "iat": NOW, "jti": "x" * 16})
    with pytest.raises(InvalidProofError, match="not signed"):
        check_proof(KEY.public, f"{head}.{payload}.{signature}", Purpose.RENEW, "dev-2", NOW)


@given(st.text())
@example("")
@example("..")
@example("a.b.c")
@example("." * 2000)
@example("ä.ä.ä")
@example("\x00.\x00.\x00")
def test_no_text_is_a_proof_by_chance(text: str) -> None:
    with pytest.raises(InvalidProofError):
        check_proof(KEY.public, text, Purpose.RENEW, "dev-1", NOW)


@given(st.text())
@example("A" * 43 + "=")
@example("A" * 42 + "B")  # bits that belong to no byte
@example("A" * 42)
def test_no_text_is_a_public_key_by_chance(text: str) -> None:
    assert not is_public_key(text)
    with pytest.raises(InvalidProofError):
        check_proof(text, PROOF, Purpose.RENEW, "dev-1", NOW)
