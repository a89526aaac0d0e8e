"""TLS to the relay: who is trusted, and what is spoken at least."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge_agent.errors import TrustError

__all__ = ["client_context"]


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that checks the relay's certificate and its name.

    Args:
        ca_file: certificates (PEM) to trust instead of those of the system.

    Raises:
        TrustError: the file cannot be read, or holds no certificate.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    except ssl.SSLError as exc:
        raise TrustError(f"{ca_file} holds no certificates in PEM form") from exc
    except OSError as exc:
        raise TrustError(f"{ca_file} cannot be read: {exc.strerror}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A front that offers HTTP/2 would choose it without this, and RFC 6455 upgrades HTTP/1.1 only.
    context.set_alpn_protocols(["http/1.1"])
    return context
