"""How a device gets what it dials in with, and keeps it fresh.

CredentialStore   key, credential and session token, in the agent's folder
ApiClient         the few calls of the API that a device makes
pair, login       the two ways in, for the command line
RenewingDialer    the agent's dialer, for a device that can renew its session token
"""

from __future__ import annotations

from edge_agent.pairing.client import ApiClient
from edge_agent.pairing.credentials import Credential, CredentialStore
from edge_agent.pairing.enrolment import login, pair
from edge_agent.pairing.renewal import Renewer, RenewingDialer

__all__ = ["ApiClient", "Credential", "CredentialStore", "Renewer", "RenewingDialer", "login", "pair"]
