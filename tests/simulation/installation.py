"""Keys, tokens and a certificate: what an installation has, made once for all runs.

The certificate is an Ed25519 one with fixed dates and number, and so is always of the same size: with ECDSA, the bytes
of a TLS handshake would differ in number from run to run, and faults at a byte count would hit other places.
"""

from __future__ import annotations

import datetime
import itertools
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from common.crypto.key_sets import generate_key_pair
from common.crypto.keyfiles import write_secret
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner, SessionTokenVerifier
from common.ids import DeviceId, TeamId
from edge_agent.tls import client_context
from tests.simulation.scenario import CREDENTIALS

__all__ = ["EPOCH", "HOST", "TEAM", "Installation", "credential_id", "device_id"]

EPOCH = 1_800_000_000.0
"""The wall time at which every simulation begins."""

HOST = "relay.example"
TEAM = TeamId("home")


def device_id(number: int) -> DeviceId:
    """The id of a device, always the same."""
    return DeviceId(f"dev-{number}")


def credential_id(number: int, credential: int) -> CredentialId:
    """The id of one of a device's credentials."""
    return CredentialId(f"cred-{number}-{credential}")


class Installation:
    """See the module.

    Args:
        folder: where the files go.
        devices: how many get a token.
    """

    def __init__(self, folder: Path, *, devices: int) -> None:
        private, public = folder / "signing.json", folder / "session-keys.json"
        generate_key_pair(private, public)
        self.verifier = SessionTokenVerifier.from_file(public)
        signer = SessionTokenSigner.from_file(private)
        self.token_files: dict[tuple[int, int], Path] = {}
        """By the number of the device, and of its credential."""
        for number, credential in itertools.product(range(devices), range(CREDENTIALS)):
            claims = SessionClaims(
                device=device_id(number),
                device_name=f"device-{number}",
                team=TEAM,
                credential=credential_id(number, credential),
                issued_at=EPOCH,
                expires_at=EPOCH + 1_000_000,
            )
            file = self.token_files[number, credential] = folder / f"token-{number}-{credential}"
            write_secret(file, signer.sign(claims).reveal())
        certificate, key = _certificate(folder)
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(certificate, key)
        self.client_context = client_context(certificate)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2049, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].touch(mode=0o600)
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
