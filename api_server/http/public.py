"""The one list of what is served without an identity. Everything else answers 401 first, even a path that is not there.

None of these depends on who asks, or tells anything about the installation but whether it is up. Those of sign-in show
their own proof: a sign-in under way, a token that the identity provider signed, or the session cookie, without which
`/api/auth/gateway` sends a browser to sign in. So do those of devices: a pairing
token, a code, or a signature with the device's key.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PUBLIC"]

PUBLIC: Final = frozenset(
    {
        ("GET", "/"),
        ("GET", "/api/auth/callback"),
        ("GET", "/api/auth/gateway"),
        ("GET", "/api/auth/login"),
        ("POST", "/api/auth/backchannel-logout"),
        ("POST", "/api/device-authorization"),
        ("POST", "/api/device-token"),
        ("POST", "/api/devices/{id}/renew"),
        ("POST", "/api/pairing/exchange"),
        ("GET", "/device"),
        ("GET", "/docs"),
        ("GET", "/docs/errors"),
        ("GET", "/healthz"),
        ("GET", "/invitations/{id}"),
        ("GET", "/openapi.json"),
        ("GET", "/readyz"),
    }
)
"""Method and path, as registered. HEAD goes with GET."""
