"""The live OpenAPI document is true: whatever is sent, no answer is a 5xx, or one that the document does not know.

schemathesis makes the requests, at the edges of each schema and at random, from a fixed seed. The domains are the real
ones, over SQLite; what they do with such text on the other databases is in `test_text.py`.

    HOMEPORT_SCHEMATHESIS=1000    random requests for each endpoint, instead of a few
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from schemathesis.config import (
    ChecksConfig,
    CoveragePhaseConfig,
    ExamplesPhaseConfig,
    FuzzingPhaseConfig,
    GenerationConfig,
    PhasesConfig,
    PositiveDataAcceptanceConfig,
    SchemathesisConfig,
    SimpleCheckConfig,
    StatefulPhaseConfig,
)
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import CheckNode, Interaction

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import Home, Person, running_domains
from tests.databases.fixtures import FreshDatabase

EXAMPLES = int(os.environ.get("HOMEPORT_SCHEMATHESIS", "4"))
SEED = 20_240_229
MOST_SHOWN = 20


@contextmanager
def running(url: str, signer: SessionTokenSigner) -> Iterator[tuple[Home, Person]]:
    """An API in a thread of its own, and an ADMIN who has one of everything."""

    @asynccontextmanager
    async def stage() -> Any:
        async with Database.connect(url) as database, running_domains(database, signer) as home:
            ann = await home.person("ann", home=Role.ADMIN)
            for path, body in (
                ("devices", {"name": "lathe"}),
                ("devices/lathe/session-tokens", {}),
                ("pairing-tokens", {"uses": 2}),
                ("api-tokens", {"name": "ci", "scopes": ["devices:read"]}),
                ("invitations", {"email": "bob@example.org", "teams": [{"team": "home", "role": "VIEWER"}]}),
            ):
                assert (await home.call("POST", f"/api/{path}", ann, json=body)).status_code == 201
            yield home, ann

    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(stage()) as made:
        yield made


def configuration(*, known: bool) -> SchemathesisConfig:
    """What is sent, and what is looked at.

    Args:
        known: somebody asks; nobody is told 401 first, before it matters whether there is such a method.
    """
    off = SimpleCheckConfig(enabled=False)
    # What a schema cannot say is refused as well: a proof must hold, a name must be free.
    accepted = PositiveDataAcceptanceConfig(enabled=False)
    config = SchemathesisConfig(seed=SEED)
    project = config.projects.default
    project.generation = GenerationConfig(max_examples=EXAMPLES, no_shrink=True, database="none")
    project.phases = PhasesConfig(
        examples=ExamplesPhaseConfig(enabled=False),
        coverage=CoveragePhaseConfig(enabled=True),
        fuzzing=FuzzingPhaseConfig(enabled=True),
        stateful=StatefulPhaseConfig(enabled=False),
    )
    project.checks = ChecksConfig(
        positive_data_acceptance=accepted,
        use_after_free=off,
        ensure_resource_availability=off,
        unsupported_method=SimpleCheckConfig(enabled=known),
    )
    return config


def nobody_can_sign_in(check: str, exchange: Interaction) -> bool:
    """Whether it is the one 5xx that is right: this API has no identity provider, and says so."""
    answer = exchange.response
    return check == "not_a_server_error" and answer is not None and b'"sign_in_not_configured"' in answer.content


def shown(check: CheckNode, exchange: Interaction) -> str:
    """A finding, for people."""
    asked, answer = exchange.request, exchange.response
    failure = None if check.failure_info is None else check.failure_info.failure
    answered = "no answer" if answer is None else f"{answer.status_code} {answer.content[:300]!r}"
    return f"{check.name}: {asked.method} {asked.uri[:300]} {failure}\n    {answered}"


def findings(url: str, headers: dict[str, str]) -> tuple[list[str], int]:
    """What is wrong with the API at `url`, and how many requests were made."""
    config = configuration(known=bool(headers))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config).exclude(path="/api/events")
    schema.config.headers = headers
    wrong: list[str] = []
    requests = 0
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                requests += len(event.recorder.interactions)
                for case, checks in event.recorder.checks.items():
                    for check in checks:
                        exchange = event.recorder.interactions[case]
                        if check.status is Status.FAILURE and not nobody_can_sign_in(check.name, exchange):
                            wrong.append(shown(check, exchange))
            case events.NonFatalError() | events.FatalError():
                wrong.append(str(event))
    return wrong, requests


@pytest.mark.parametrize("who", ["an ADMIN", "nobody"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that schemathesis is made of
def test_no_answer_is_a_fault_or_undocumented(
    who: str, fresh_database: FreshDatabase, signer: SessionTokenSigner
) -> None:
    with fresh_database(Kind.SQLITE) as url, running(url, signer) as (home, ann):
        headers = {"Authorization": f"Bearer {ann.token.reveal()}"} if who == "an ADMIN" else {}
        wrong, requests = findings(home.url, headers)
    assert not wrong, "\n".join([f"{len(wrong)} findings", *wrong[:MOST_SHOWN]])
    assert requests > 500, "schemathesis has hardly asked anything"
