"""A relying party of OpenID Connect: authorization code with PKCE, back-channel logout, and the service client.

jose.py            keys and signatures
claims.py          what ID tokens and logout tokens say, checked
metadata.py        what a provider says about itself, checked
requests.py        what is sent, and what the answers mean
answer.py          what comes back
fetcher.py         the one place with I/O, behind an interface
provider.py        description and keys, kept for a while
relying_party.py   all of it in order
service_client.py  tokens for the API itself
"""

from __future__ import annotations

from api_server.auth.oidc.claims import LogoutClaims, Person
from api_server.auth.oidc.fetcher import Fetcher, HttpxFetcher
from api_server.auth.oidc.relying_party import RelyingParty
from api_server.auth.oidc.requests import Client, Transaction
from api_server.auth.oidc.service_client import ServiceClient

__all__ = [
    "Client",
    "Fetcher",
    "HttpxFetcher",
    "LogoutClaims",
    "Person",
    "RelyingParty",
    "ServiceClient",
    "Transaction",
]
