"""Every table of the code on one `METADATA`: importing this module has made it whole."""

from __future__ import annotations

import api_server.audit.tables
import api_server.auth.signin.tables
import api_server.broker.tables
import api_server.changes.tables
import api_server.custody.tables
import api_server.devices.tables
import api_server.leases.tables
import api_server.limits.tables
import api_server.provider_tokens.tables
import api_server.routing.tables
import api_server.teams.tables
import api_server.tokens.tables
import api_server.usage.tables
import api_server.webhooks.tables  # noqa: F401
from api_server.db.metadata import METADATA

__all__ = ["METADATA"]
