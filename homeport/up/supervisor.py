"""Runs the processes of a `Plan`: starts them in order, restarts what dies, and stops them in order.

    start   provider for development  ->  relay, demo service, migrations  ->  API  ->  agent
            ->  the demo service answers  ->  run.json
    stop    API and gateway  ->  agent  ->  relay  ->  demo service  ->  provider for development

It stops from the side the requests come from, so that each process still has what it needs to finish what it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from api_server.db.database import Database
from api_server.db.migrate import upgrade
from common.clock import Clock
from common.errors import HomeportError
from common.process import STOP_SIGNALS, ignore_stop_signals, on_stop_signals
from common.secret import Secret
from homeport.errors import ApiError
from homeport.problems import read_problem
from homeport.run_file import Run
from homeport.up.child import SUPERVISOR, Arguments, Child, Ready
from homeport.up.data_directory import DataDirectory
from homeport.up.demo_tokens import ApiAccess, DemoTokens
from homeport.up.errors import NotReachableError
from homeport.up.log import LogPrinter
from homeport.up.plan import DEMO_DEVICE, DEMO_SERVICE, Plan

__all__ = ["Supervisor"]

_REACHABLE_WITHIN = 30.0
"""Seconds in which the demo service must answer through the gateway, once everything runs."""

_REACHABLE_CHECKS = 0.1
"""Seconds between two attempts."""


class Supervisor:
    """One `homeport up`.

    Args:
        plan: what runs.
        directory: locked, with its keys made.
        admin_token: of the API.
        demo: whether to run the demo device.
        grace: seconds that the processes were told they may take to end.
        log: shows what everybody says.
        clock: for the life of processes and tokens.
        on_ready: called once, when everything answers.
    """

    def __init__(
        self,
        plan: Plan,
        directory: DataDirectory,
        admin_token: Secret,
        *,
        demo: bool,
        grace: float,
        log: LogPrinter,
        clock: Clock,
        on_ready: Callable[[Run], None],
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._admin_token = admin_token
        self._demo = demo
        self._grace = grace
        self._log = log
        self._clock = clock
        self._on_ready = on_ready
        self._children: list[Child] = []
        """In the order in which they are stopped."""
        self._stopping = False
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; a second signal ends the grace.

        Raises:
            HomeportError: something did not start; what had started is stopped again.
        """
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        numbers = [*STOP_SIGNALS, signal.SIGHUP]
        # nohup(1) ignores one, and means it.
        numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        on_stop_signals(lambda: loop.call_soon_threadsafe(self._signalled, task), numbers)
        failure: HomeportError | None = None
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                try:
                    self._say(f"starting; keys and state are in {self._directory.path}")
                    run = await self._start(group)
                    self._directory.write_run_file(run)
                    self._on_ready(run)
                    await loop.create_future()
                except HomeportError as exc:
                    failure = exc
                finally:
                    # Within the group: its tasks show the last lines of each process.
                    self._stopping = True
                    self._directory.remove_run_file()
                    for child in self._children:
                        await child.stop(self._grace, self._hurry)
                    ignore_stop_signals(numbers)
                raise asyncio.CancelledError  # of the tasks that are left
        if failure is not None:
            raise failure

    def _signalled(self, task: asyncio.Task[Any]) -> None:
        if self._stopping:
            self._hurry.set()
        else:
            self._stopping = True
            self._say("stopping; once more to stop at once")
            task.cancel()

    async def _start(self, group: asyncio.TaskGroup) -> Run:
        plan = self._plan

        async def relay_arguments(before: Ready | None) -> list[str]:
            return plan.relay_command(before)

        async def api_arguments(before: Ready | None) -> list[str]:
            return plan.api_command(relay, issuer, before)

        async def dev_idp_arguments(before: Ready | None) -> list[str]:
            return plan.dev_idp_command(before)

        async def demo_arguments(before: Ready | None) -> list[str]:
            return plan.demo_command(before)

        async def agent_arguments(before: Ready | None) -> list[str]:
            try:
                await tokens.renew()
            except ApiError as exc:
                if before is None:
                    raise
                self._say(f"the demo device keeps its session token: {exc.detail}")
            return plan.agent_command(relay, demo)

        relay_child = self._new_child("relay", relay_arguments, group)
        api_child = self._new_child("api", api_arguments, group)
        demo_child = self._new_child("demo", demo_arguments, group)
        agent_child = self._new_child("agent", agent_arguments, group)
        dev_idp_child = self._new_child("dev-idp", dev_idp_arguments, group)
        self._children = [api_child, agent_child, relay_child, demo_child, dev_idp_child]

        issuer = plan.api.oidc_issuer
        if plan.runs_dev_idp:
            issuer = await self._start_dev_idp(dev_idp_child)
        elif issuer is None:
            self._say("nobody can sign in: the API is meant for others, and oidc_issuer is not set")

        if self._demo:
            relay, demo, _ = await asyncio.gather(relay_child.start(), demo_child.start(), self._migrate())
        else:
            relay, _ = await asyncio.gather(relay_child.start(), self._migrate())
        api = await api_child.start()
        if self._demo:
            tokens = DemoTokens(ApiAccess(api["api"], self._admin_token, plan.team), self._directory, self._clock)
            await agent_child.start()
            group.create_task(tokens.keep_fresh(self._say), name="keep the demo device's token fresh")
            await self._wait_reachable(f"{api['gateway']}/d/{plan.team}/{DEMO_DEVICE}/{DEMO_SERVICE}/status/204")
        return Run(
            api=api["api"],
            gateway=api["gateway"],
            tunnel=relay["tunnel"],
            internal=relay["internal"],
            issuer=issuer,
            pid=os.getpid(),
            team=plan.team,
            demo_device=DEMO_DEVICE if self._demo else None,
            demo_service=DEMO_SERVICE if self._demo else None,
        )

    async def _migrate(self) -> None:
        """Bring the database to the schema of this version.

        Raises:
            DatabaseError: it is not there, or has the schema of a newer one.
        """
        async with Database.connect(self._plan.api.database()) as database:
            before, after = await upgrade(database)
            if before not in (None, after):
                self._say(f"the database {database.name} was upgraded from schema {before} to {after}")

    async def _start_dev_idp(self, child: Child) -> str:
        """Run the provider for development; gives its issuer."""
        issuer: str = (await child.start())["issuer"]
        port = urlsplit(issuer).port
        assert port is not None
        self._directory.write_dev_idp_port(port)
        return issuer

    async def _wait_reachable(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {self._admin_token.reveal()}"}
        answer = "nothing"
        try:
            async with (
                asyncio.timeout(_REACHABLE_WITHIN),
                httpx.AsyncClient(trust_env=False, headers=headers) as client,
            ):
                while True:
                    try:
                        response = await client.get(url)
                    except httpx.HTTPError as exc:
                        answer = str(exc) or type(exc).__name__
                    else:
                        if response.status_code == 204:
                            return
                        answer = read_problem(response.status_code, response.content).detail
                    await asyncio.sleep(_REACHABLE_CHECKS)
        except TimeoutError:
            raise NotReachableError(
                f"everything runs, but {url} did not answer within {_REACHABLE_WITHIN:.0f} s; the last answer: {answer}"
            ) from None

    def _new_child(self, name: str, arguments: Arguments, group: asyncio.TaskGroup) -> Child:
        ready_file = self._directory.ready_file(name)
        return Child(name, arguments, ready_file, log=self._log, clock=self._clock, group=group)

    def _say(self, text: str) -> None:
        self._log.line(SUPERVISOR, text)
