"""Two API servers as processes of their own, one database, and a provider whose refresh tokens rotate: B1, C8."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.db.schema import METADATA
from tests.api_server.provider_tokens.double import CANARY, Double
from tests.api_server.provider_tokens.pair import GITLAB, SECRET, furnish, two_servers
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

REQUESTS = 200


@pytest.mark.parametrize("kind", [Kind.SQLITE, Kind.POSTGRESQL], ids=lambda kind: kind.name.lower())
async def test_b1_two_processes_refresh_one_token_that_rotates(
    tmp_path: Path, fresh_database: FreshDatabase, issuer: str, double: Double, kind: Kind
) -> None:
    """200 requests at two processes: the provider sees each refresh token once, be one refresh enough for all of them,
    or each access token over as soon as it is given.
    """
    with fresh_database(kind) as url:
        async with two_servers(tmp_path, url, issuer, double) as pair:
            double.expires_in = 0.001
            await furnish(pair, issuer, double)

            double.expires_in, double.delay = 3600, 0.2
            answers = await asyncio.gather(*(pair.hand_out(number) for number in range(REQUESTS)))
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert len({answer.json()["access_token"] for answer in answers}) == 1
            assert list(double.shown.values()) == [1]

            double.expires_in, double.delay = 0.001, 0.01
            browser = pair.http
            begun = await browser.get(f"{pair.urls[0]}{GITLAB}/connect")
            back = double.consent(begun.headers["Location"])
            assert (await browser.get(f"{pair.urls[0]}{GITLAB}/callback", params=back)).status_code == 303
            answers = await asyncio.gather(*(pair.hand_out(number) for number in range(REQUESTS)))
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert set(double.shown.values()) == {1}
            assert len(double.shown) > 2
            shown = (await browser.get(f"{pair.urls[1]}{GITLAB}")).json()
            assert (shown["state"], shown["problem"]) == ("active", None)

            # C8: nothing of it in logs, arguments, metrics, or anywhere in the database but sealed.
            texts = [log.read_text() for log in pair.logs] + pair.commands
            admin = (tmp_path / "keys" / "admin-token").read_text().strip()
            for here in pair.urls:
                metrics = await browser.get(f"{here}/metrics", headers={"Authorization": f"Bearer {admin}"})
                assert metrics.status_code == 200
                texts.append(metrics.text)
            async with Database.connect(url) as database, database.administer() as connection:
                for table in METADATA.sorted_tables:
                    texts.append(str((await connection.execute(table.select())).all()))
                await connection.rollback()
            assert not any(CANARY in text or SECRET in text for text in texts)
