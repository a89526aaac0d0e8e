"""Where the provider for development may run: on a machine whose API is for that machine alone."""

from __future__ import annotations

from common.urls import is_loopback, is_loopback_url
from homeport.dev_idp.errors import DevProviderRefusedError

__all__ = ["check_place"]


def check_place(host: str, public_url: str | None) -> None:
    """Whether the provider may run here.

    Args:
        host: address that it would listen on.
        public_url: of the API that trusts it; None where that is not set.

    Raises:
        DevProviderRefusedError: it would be reachable from elsewhere, or the API is.
    """
    if not is_loopback(host):
        raise DevProviderRefusedError(
            f"the provider for development asks for no password and listens on this machine only, not on {host}"
        )
    if public_url is not None and not is_loopback_url(public_url):
        raise DevProviderRefusedError(
            f"the API is meant for others ({public_url}); set oidc_issuer to a provider that asks for passwords"
        )
