"""`/api/providers`."""

from __future__ import annotations

from typing import Any

import pytest

from api_server.connections import Connections
from api_server.http.routes import ListQuery
from api_server.provider_tokens.endpoints import ProviderEndpoints
from api_server.provider_tokens.settings import ProviderKind, ProviderSettings
from common.secret import Secret
from tests.api_server.fakes import FakeClock

pytestmark = pytest.mark.anyio


async def test_the_providers_page_by_page_without_a_secret() -> None:
    unasked: Any = None
    settings = {
        "github": ProviderSettings(client_id="app", client_secret=Secret("c4nary")),
        "gitlab": ProviderSettings(client_id="app", url="https://git.test/lab", title="The lab"),
        "a-login": ProviderSettings(client_id="app", url="https://id.test/", kind=ProviderKind.OIDC, scopes=()),
    }
    (endpoints,) = Connections(settings, unasked, FakeClock()).endpoints
    assert isinstance(endpoints, ProviderEndpoints)
    first = await endpoints.list_providers(ListQuery(limit=2))
    assert [(each.id, each.title, each.kind) for each in first.items] == [
        ("a-login", "a-login", ProviderKind.OIDC),
        ("github", "github", ProviderKind.GITHUB),
    ]
    assert first.next == "github"
    last = await endpoints.list_providers(ListQuery(limit=2, cursor=first.next))
    assert [(each.id, each.title, each.url) for each in last.items] == [("gitlab", "The lab", "https://git.test/lab")]
    assert last.next is None
    assert "c4nary" not in repr(first)
