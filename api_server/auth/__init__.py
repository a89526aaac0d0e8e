"""Authentication and authorisation: what a request shows, who that is, and what they may do.

`interfaces` is what the rest of the API server depends on; `credentials` finds the credential in a request;
`admin_token` is the source of identity of this stage.
"""

from __future__ import annotations

from api_server.auth.credentials import Presented, challenges, presented
from api_server.auth.interfaces import INSTALLATION_ACTIONS, PENDING, Action, Authenticator, Decision, Identity, Pending

__all__ = [
    "INSTALLATION_ACTIONS",
    "PENDING",
    "Action",
    "Authenticator",
    "Decision",
    "Identity",
    "Pending",
    "Presented",
    "challenges",
    "presented",
]
