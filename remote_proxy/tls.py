"""TLS of the relay's two ports."""

from __future__ import annotations

import ssl
from pathlib import Path

from common.settings import Problem, SettingsError

__all__ = ["server_context"]


def server_context(
    cert_file: Path | None, key_file: Path | None, client_ca_file: Path | None = None
) -> ssl.SSLContext | None:
    """The context of a listener; None when it has no certificate.

    Args:
        cert_file: certificate chain, PEM.
        key_file: its private key, PEM.
        client_ca_file: authority whose clients alone may connect; None for any client.

    Raises:
        SettingsError: a file cannot be used. What the file holds is not said.
    """
    if cert_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError([Problem(f"{cert_file} and {key_file}", "are not a certificate and its key")]) from exc
    if client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError([Problem(str(client_ca_file), "is not a certificate authority")]) from exc
    return context
