"""From what happens to the receiver: signed, at least once, by one process, again when it fails."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection
from standardwebhooks.webhooks import WebhookVerificationError

from api_server.changes.interfaces import Change, Topic
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.outbound.outbound import Outbound
from api_server.relay.events import EventKind, SessionEvent
from api_server.webhooks.collector import EventCollector
from api_server.webhooks.courier import Courier
from api_server.webhooks.metrics import WebhookMetrics
from api_server.webhooks.outbox import Outbox
from api_server.webhooks.records import Event
from api_server.webhooks.schedule import GIVE_UP
from api_server.webhooks.sealing import WebhookSecrets
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import HOME, summary
from tests.api_server.people import PROGRAM, Home, running_domains
from tests.api_server.webhooks.receiver import Message, Receiver, receiving
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

ALLOWED = ("127.0.0.1",)


class Stage:
    """A receiver, an API, and as many couriers as there would be processes."""

    def __init__(self, home: Home, receiver: Receiver, outbound: Outbound, tasks: asyncio.TaskGroup) -> None:
        self.home = home
        self.receiver = receiver
        self.couriers: list[Courier] = []
        self.registry = CollectorRegistry()
        self._outbound = outbound
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []

    def start(self, number: int = 1, *, timeout: float = 5.0, outbound: Outbound | None = None) -> None:
        """Start couriers."""
        for _ in range(number):
            courier = Courier(
                database=self.home.database,
                audit=self.home.audit,
                changes=self.home.domains.changes,
                sender=(outbound or self._outbound).http,
                secrets=WebhookSecrets(self.home.domains.envelope),
                metrics=WebhookMetrics(self.registry if not self.couriers else CollectorRegistry()),
                clock=self.home.clock,
                timeout=timeout,
                poll=0.05,
                rng=random.Random(1),
            )
            self.couriers.append(courier)
            self._running.append(self._tasks.create_task(courier.run()))

    def collector(self) -> EventCollector:
        """What a process gathers events with."""
        made = EventCollector(
            self.home.database,
            WebhookMetrics(CollectorRegistry()),
            self.home.clock,
            self.home.domains.changes,
            lambda: None,
        )
        self._running.append(self._tasks.create_task(made.run()))
        return made

    def end(self) -> None:
        for task in self._running:
            task.cancel()

    async def webhook(self, path: str = "/", *, events: Sequence[str] = ("*",)) -> dict[str, Any]:
        body = {"name": "w", "url": f"{self.receiver.url}{path}", "events": list(events)}
        answer = await self.home.call("POST", "/api/webhooks", PROGRAM, json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def happen(self, number: int, kind: str = "thing.done") -> None:
        """An event, committed."""
        event = Event(id=f"evt_{number}", team=HOME, type=kind, time=self.home.clock.wall(), data={"number": number})
        await self.home.database.write(lambda tx: Outbox().add(tx, event, event.time))

    async def deliveries(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.home.call("GET", f"/api/webhooks/{webhook['id']}/deliveries", PROGRAM)
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def until(self, webhook: dict[str, Any], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The newest delivery, once it is so."""
        async with asyncio.timeout(20):
            while True:
                found = await self.deliveries(webhook)
                if found and holds(found[0]):
                    return found[0]
                await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(
    database: Database, signer: SessionTokenSigner, allowed: Sequence[str] = ALLOWED
) -> AsyncIterator[Stage]:
    outbound = Outbound(allowed)
    async with (
        receiving() as receiver,
        running_domains(database, signer, outbound=outbound) as home,
        asyncio.TaskGroup() as tasks,
    ):
        home.clock.wall_now = round(time.time())  # the library that checks signatures looks at the real clock
        made = Stage(home, receiver, outbound, tasks)
        try:
            yield made
        finally:
            made.end()
    await outbound.aclose()


@pytest.fixture
async def here(fresh_database: FreshDatabase, signer: SessionTokenSigner) -> AsyncIterator[Stage]:
    """On SQLite."""
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database, stage(database, signer) as made:
            yield made


@pytest.fixture
async def everywhere(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Stage]:
    """On each database."""
    async with stage(database, signer) as made:
        yield made


def event_of(number: int, kind: EventKind = EventKind.ONLINE) -> SessionEvent:
    """As every process hears it from the relay."""
    return SessionEvent(id=f"relay-{number}", type=kind, time=1_700_000_000.0, team=HOME, session=summary(number))


async def test_an_event_of_a_session_that_two_processes_hear_is_one_delivery_signed(everywhere: Stage) -> None:
    here = everywhere
    webhook = await here.webhook(events=["session.*"])
    await here.webhook("/other", events=["token.revoked"])
    for collector in (here.collector(), here.collector()):
        collector.session_changed(event_of(1))
        collector.session_changed(event_of(1, EventKind.UPDATED))
        collector.session_changed(event_of(1, EventKind.OFFLINE))
    here.start(2)
    came = await here.receiver.wait(2)
    assert len(await here.deliveries(webhook)) == 2
    said = {each["type"]: each for each in (message.verified(webhook["secret"]) for message in came)}
    assert set(said) == {"session.online", "session.offline"}
    assert said["session.online"]["data"] == {
        "session": summary(1).id,
        "device": "device-1",
        "device_name": "device-1",
        "remote_address": "192.0.2.1",
    }
    assert said["session.online"]["team"] == HOME
    assert said["session.online"]["timestamp"] == "2023-11-14T22:13:20.000Z"
    with pytest.raises(WebhookVerificationError):
        came[0].verified("whsec_" + "A" * 44)
    assert {message.path for message in here.receiver.came} == {"/"}


async def test_each_delivery_is_sent_by_one_of_several_processes(everywhere: Stage) -> None:
    here = everywhere
    webhook = await here.webhook()
    for number in range(40):
        await here.happen(number)
    here.start(3)
    came = await here.receiver.wait(40)
    await here.until(webhook, lambda _: True)
    async with asyncio.timeout(20):
        while any(each["state"] != "delivered" for each in await here.deliveries(webhook)):
            await asyncio.sleep(0.01)
    assert len(came) == 40
    assert len({message.id for message in came}) == 40


async def test_a_change_and_its_event_are_one_transaction(here: Stage) -> None:
    webhook = await here.webhook()
    changes = here.home.domains.changes

    def change(subject: str) -> Change:
        return Change(topic=Topic.TOKENS, team=HOME, subject=subject, event="token.revoked", data={"name": "ci"})

    async def fails(tx: AsyncConnection) -> None:
        await changes.record(tx, change("tok_1"))
        raise ValueError

    with pytest.raises(ValueError):
        await here.home.database.write(fails)
    await here.home.database.write(lambda tx: changes.record(tx, change("tok_2")))
    here.start()
    (message,) = await here.receiver.wait(1)
    said = message.verified(webhook["secret"])
    assert (said["type"], said["data"]) == ("token.revoked", {"id": "tok_2", "name": "ci"})
    assert len(await here.deliveries(webhook)) == 1


async def test_what_fails_is_sent_again_later_with_the_same_id_and_dies_in_the_end(here: Stage) -> None:
    here.receiver.answers["/"] = 500
    webhook = await here.webhook()
    await here.happen(1)
    here.start()
    for attempt in range(1, GIVE_UP + 1):
        last = await here.until(webhook, lambda each: each["attempts"] == attempt)  # noqa: B023
        assert (last["last_status"], last["last_error"]) == (500, "answered")
        if attempt < GIVE_UP:
            wait = last["next_at"] - here.home.clock.wall()
            assert 0 < wait <= 12 * 3600 * 1.2
            here.home.clock.advance(wait)
    assert (last["state"], last["next_at"]) == ("dead", None)
    assert len(here.receiver.came) == GIVE_UP
    assert {message.id for message in here.receiver.came} == {"evt_1"}
    assert {message.body for message in here.receiver.came} == {here.receiver.came[0].body}
    dead = await here.home.call("GET", f"/api/webhooks/{webhook['id']}/deliveries?state=dead", PROGRAM)
    assert [each["id"] for each in dead.json()["items"]] == [last["id"]]

    # It can be sent again by hand, and what was delivered, too.
    here.receiver.answers["/"] = 200
    path = f"/api/webhooks/{webhook['id']}/deliveries/{last['id']}/retry"
    assert (await here.home.call("POST", path, PROGRAM)).status_code == 202
    await here.until(webhook, lambda each: each["state"] == "delivered")
    assert (await here.home.call("POST", path, PROGRAM)).json()["state"] == "pending"
    await here.receiver.wait(GIVE_UP + 2)


async def test_a_receiver_says_when_to_come_back(here: Stage) -> None:
    async def busy(_: Message) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3000"})

    here.receiver.answers["/"] = busy
    webhook = await here.webhook()
    await here.happen(1)
    here.start()
    last = await here.until(webhook, lambda each: each["attempts"] == 1)
    assert last["next_at"] - here.home.clock.wall() == 3000


async def test_receivers_that_redirect_hang_or_answer_hugely(here: Stage) -> None:
    release = asyncio.Event()

    async def hang(_: Message) -> web.Response:
        await release.wait()
        return web.Response()

    async def redirect(_: Message) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{here.receiver.url}/elsewhere"})

    async def huge(_: Message) -> web.Response:
        return web.Response(body=b"x" * 1_000_000)

    here.receiver.answers |= {"/hang": hang, "/redirect": redirect, "/huge": huge}
    webhooks = {path: await here.webhook(path) for path in ("/hang", "/redirect", "/huge")}
    await here.happen(1)
    here.start(timeout=1.0)
    found = {path: await here.until(webhook, lambda each: each["attempts"] == 1) for path, webhook in webhooks.items()}
    release.set()
    assert {path: (each["last_status"], each["last_error"]) for path, each in found.items()} == {
        "/hang": (None, "target_timeout"),
        "/redirect": (307, "answered"),
        "/huge": (None, "target_answer_too_large"),
    }
    assert all(each["state"] == "pending" for each in found.values())
    assert "/elsewhere" not in {message.path for message in here.receiver.came}


async def test_one_that_hangs_holds_up_nobody_else(here: Stage) -> None:
    release = asyncio.Event()

    async def hang(_: Message) -> web.Response:
        await release.wait()
        return web.Response()

    here.receiver.answers["/hang"] = hang
    await here.webhook("/hang")
    await here.webhook("/ok")
    for number in range(30):
        await here.happen(number)
    here.start()
    async with asyncio.timeout(20):
        while sum(message.path == "/ok" for message in here.receiver.came) < 30:
            here.receiver.news.clear()
            await here.receiver.news.wait()
    assert sum(message.path == "/hang" for message in here.receiver.came) == 2
    release.set()


async def test_410_disables_a_webhook_and_the_others_are_told(here: Stage) -> None:
    here.receiver.answers["/gone"] = 410
    gone, other = await here.webhook("/gone", events=["thing.*"]), await here.webhook("/other", events=["webhook.*"])
    await here.happen(1)
    here.start()
    await here.until(gone, lambda each: each["state"] == "dead")
    shown = (await here.home.call("GET", f"/api/webhooks/{gone['id']}", PROGRAM)).json()
    assert shown["disabled_reason"] == "gone"
    async with asyncio.timeout(20):
        while not any(message.path == "/other" for message in here.receiver.came):
            here.receiver.news.clear()
            await here.receiver.news.wait()
    said = here.receiver.came[-1].verified(other["secret"])
    assert (said["type"], said["data"]["reason"]) == ("webhook.disabled", "gone")
    (line,) = [each for each in here.home.audit.lines if each.action == "webhook.disabled"]
    assert (line.actor.kind, line.target_id) == ("system", gone["id"])
    # Nothing more is sent to it until somebody enables it.
    await here.happen(2)
    assert len(await here.deliveries(gone)) == 1
    again = f"/api/webhooks/{gone['id']}"
    dead = (await here.deliveries(gone))[0]["id"]
    assert (await here.home.call("POST", f"{again}/deliveries/{dead}/retry", PROGRAM)).json()[
        "code"
    ] == "webhook_disabled"
    here.receiver.answers["/gone"] = 200
    assert (await here.home.call("PATCH", again, PROGRAM, json={"disabled": False})).status_code == 200
    assert (await here.home.call("POST", f"{again}/deliveries/{dead}/retry", PROGRAM)).status_code == 202
    await here.until(gone, lambda each: each["state"] == "delivered")


async def test_failing_for_days_disables_a_webhook(here: Stage) -> None:
    here.receiver.answers["/"] = 503
    webhook = await here.webhook(events=["thing.*"])
    here.start()
    began = here.home.clock.wall()
    for day in range(3):
        await here.happen(day)
        await here.until(webhook, lambda each: each["event"] == f"evt_{day}" and each["attempts"] == 1)  # noqa: B023
        shown = (await here.home.call("GET", f"/api/webhooks/{webhook['id']}", PROGRAM)).json()
        assert (shown["failing_since"], shown["disabled_reason"]) == (began, None)
        here.home.clock.advance(24 * 3600)
    await here.happen(3)
    await here.until(webhook, lambda each: each["event"] == "evt_3" and each["state"] == "dead")
    shown = (await here.home.call("GET", f"/api/webhooks/{webhook['id']}", PROGRAM)).json()
    assert shown["disabled_reason"] == "failing"
    assert all(each["state"] == "dead" for each in await here.deliveries(webhook))


async def test_a_process_that_dies_at_a_delivery_leaves_it_to_another(here: Stage) -> None:
    webhook = await here.webhook()
    await here.happen(1)
    outbox, clock = Outbox(), here.home.clock
    ((delivery, _),) = await here.home.database.read(lambda tx: outbox.due(tx, clock.wall(), limit=9, without=()))
    claim = await here.home.database.write(lambda tx: outbox.claim(tx, delivery, clock.wall(), 60.0))
    assert claim is not None
    assert await here.home.database.write(lambda tx: outbox.claim(tx, delivery, clock.wall(), 60.0)) is None
    here.start()
    clock.advance(61)
    await here.until(webhook, lambda each: each["state"] == "delivered")
    # What the first one writes after all does not count any more.
    late = await here.home.database.write(lambda tx: outbox.settle(tx, delivery, claim, {"state": "dead"}))
    assert not late


async def test_while_a_secret_is_replaced_both_hold(here: Stage) -> None:
    webhook = await here.webhook()
    path = f"/api/webhooks/{webhook['id']}"
    rotated = (await here.home.call("POST", f"{path}/rotate-secret", PROGRAM, json={"overlap": 2})).json()
    assert rotated["secret"] != webhook["secret"]
    await here.happen(1)
    here.start()
    (both,) = await here.receiver.wait(1)
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    assert both.verified(webhook["secret"]) == both.verified(rotated["secret"])
    await here.until(webhook, lambda each: each["state"] == "delivered")
    here.home.clock.advance(3)
    await here.happen(2)
    after = (await here.receiver.wait(2))[1]
    assert len(after.headers["webhook-signature"].split(" ")) == 1
    with pytest.raises(WebhookVerificationError):
        after.verified(webhook["secret"])
    none = (await here.home.call("POST", f"{path}/rotate-secret", PROGRAM, json={"overlap": 0})).json()
    assert none["old_secret_until"] is None


async def test_g3_a_name_that_leads_inside_now_is_not_followed(here: Stage) -> None:
    """It is looked at again each time that something is sent, after the name was resolved."""

    async def inside(host: str, port: int) -> list[str]:
        return ["169.254.169.254"] if host == "rebound.test" else ["127.0.0.1"]

    body = {"name": "rebound", "url": "https://rebound.test/x", "events": ["*"]}
    made = (await here.home.call("POST", "/api/webhooks", PROGRAM, json=body)).json()
    outbound = Outbound((), lookup=inside)
    await here.happen(1)
    here.start(outbound=outbound)
    last = await here.until(made, lambda each: each["attempts"] == 1)
    assert (last["last_status"], last["last_error"]) == (None, "target_forbidden")
    await outbound.aclose()


async def test_a_limit_that_refuses_is_an_event_once_a_minute(here: Stage) -> None:
    webhook = await here.webhook(events=["limit.reached"])
    collectors = [here.collector(), here.collector()]
    for collector in collectors:
        collector.limit_reached(HOME, "token", "tok_1", "requests")
    here.start()
    (message,) = await here.receiver.wait(1)
    said = message.verified(webhook["secret"])
    assert said["data"] == {"kind": "token", "subject": "tok_1", "limit": "requests"}
    await here.until(webhook, lambda each: each["state"] == "delivered")
    assert len(await here.deliveries(webhook)) == 1
    async with asyncio.timeout(20):
        while sum(change.event == "limit.reached" for change in here.home.changes.announced) < 2:
            await asyncio.sleep(0.01)


async def test_what_waits_for_one_webhook_is_bounded(here: Stage) -> None:
    webhook = await here.webhook()
    outbox = Outbox(most_pending=3)
    for number in range(5):
        event = Event(id=f"evt_{number}", team=HOME, type="thing.done", time=0.0, data={})
        await here.home.database.write(lambda tx: outbox.add(tx, event, 0.0))  # noqa: B023
    assert len(await here.deliveries(webhook)) == 3


async def test_what_is_old_goes(here: Stage) -> None:
    webhook = await here.webhook()
    await here.happen(1)
    here.start()
    await here.until(webhook, lambda each: each["state"] == "delivered")
    here.home.clock.advance(8 * 24 * 3600)
    async with asyncio.timeout(20):
        while await here.deliveries(webhook):
            await asyncio.sleep(0.01)


async def test_the_secret_is_nowhere_but_in_the_answer(here: Stage) -> None:
    webhook = await here.webhook("/path?token=canary")
    secret = webhook["secret"].removeprefix("whsec_")
    await here.happen(1)
    here.start()
    await here.until(webhook, lambda each: each["state"] == "delivered")
    shown = await here.home.call("GET", "/api/webhooks", PROGRAM)
    assert secret not in shown.text
    lines = json.dumps([msgspec.to_builtins(each.after or {}) for each in here.home.audit.lines])
    assert secret not in lines
    assert "canary" not in lines

    async def dump(tx: AsyncConnection) -> str:
        rows = await tx.exec_driver_sql("SELECT secret, old_secret FROM webhooks")
        return str(rows.all())

    assert secret not in await here.home.database.read(dump)
