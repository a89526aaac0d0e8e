"""The pages for people, in Chromium on a running `homeport up`: a device is approved or denied, an invitation accepted.

By keyboard alone, with what Chromium itself says against a page (its content policy, its scripts) as a failure.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.test_browser import ARGUMENTS
from tests.stack.homeport import command
from tests.stack.installation import Installation
from tests.stack.process import Process
from tests.stack.tools import tool


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def somebody(chromium: Browser) -> Iterator[Page]:
    """A page in a browser that nobody has signed in with."""
    context = chromium.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    yield page
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def ada(chromium: Browser) -> Iterator[Page]:
    """The page of the first person to sign in, who is ADMIN."""
    with somebody(chromium) as page:
        yield page


def sign_in(page: Page, name: str, email: str) -> None:
    """By keyboard, from a page of ours that asks for it, with the provider of `homeport up`."""
    link = page.get_by_role("link", name="Sign in")
    expect(link).to_be_focused()
    link.press("Enter")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("E-mail").press("Enter")


class Login:
    """`homeport agent login` in the background."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def said(self, pattern: str) -> str:
        """What the pattern's group matches, once the command has said it."""
        self.process.wait_until(lambda: re.search(pattern, self._log) is not None, f"saying {pattern!r}")
        found = re.search(pattern, self._log)
        assert found is not None
        return found[1]

    @property
    def _log(self) -> str:
        return self.process.log.read_text()


@contextmanager
def login(installation: Installation, folder: Path, name: str) -> Iterator[Login]:
    """Somebody types `homeport agent login` on a fresh machine."""
    api = str(installation.run["api"])
    arguments = ["agent", "login", "--api", api, "--name", name, "--data-dir", str(folder / "own")]
    with Process("login", [command(), *arguments], folder=folder) as process:
        yield Login(process)


def test_a_device_is_approved(installation: Installation, ada: Page, tmp_path: Path) -> None:
    with login(installation, tmp_path, "bench") as device:
        ada.goto(device.said(r"or open (\S+)"))
        sign_in(ada, "Ada Lovelace", "ada@example.org")

        # The code has survived the way to the provider and back; it still has to be looked at.
        code = ada.get_by_label("Code")
        expect(code).to_be_focused()
        expect(code).to_have_value(device.said(r"enter the code (\S+)"))
        code.press("Enter")
        facts = ada.locator("#facts")
        expect(facts).to_contain_text(device.said(r"compare the key that it shows: (\S+)"))
        expect(facts).to_contain_text("homeport-agent/")

        # Enter decides nothing, while one is still at the fields.
        name = ada.get_by_label("Name")
        name.fill("workbench")
        name.press("Enter")
        expect(name).to_have_value("workbench")
        assert device.process.running
        ada.get_by_role("button", name="Approve").press("Enter")
        expect(ada.get_by_text("Approved.")).to_be_visible()
        assert device.process.wait(seconds=60) == 0

    # It comes online, under the name that the page was given.
    own = tmp_path / "own"
    assert json.loads((own / "device.json").read_bytes())["name"] == "workbench"
    service = json.loads((installation.folder / "demo-ready.json").read_bytes())["url"]
    ready = tmp_path / "ready.json"
    arguments: list[str | Path] = ["agent", "--data-dir", own, "--service", f"web={service}", "--ready-file", ready]
    with Process("agent", [command(), *arguments], folder=tmp_path) as agent:
        agent.wait_until(lambda: ready.exists() and json.loads(ready.read_bytes())["connected"], "connected")
        url = installation.url("workbench", "web", "/status/204")
        assert httpx.get(url, headers=installation.authorization, trust_env=False).status_code == 204


def test_a_device_is_denied(installation: Installation, ada: Page, tmp_path: Path) -> None:
    with login(installation, tmp_path, "stranger") as device:
        # Typed as people type: lower case, without the hyphen.
        ada.goto(device.said(r"open (\S+) in a browser"))
        code = ada.get_by_label("Code")
        expect(code).to_be_focused()
        code.fill(device.said(r"enter the code (\S+)").lower().replace("-", ""))
        code.press("Enter")
        ada.get_by_role("button", name="Deny").press("Enter")
        expect(ada.get_by_text("Denied.")).to_be_visible()
        assert device.process.wait(seconds=60) == 1
    assert "access_denied" in device.process.log.read_text()
    assert not (tmp_path / "own" / "device.json").exists()


def test_a_wrong_code_is_told(installation: Installation, ada: Page) -> None:
    ada.goto(f"{installation.run['api']}/device")
    code = ada.get_by_label("Code")
    code.fill("BBBB-BBBB")
    code.press("Enter")
    expect(ada.get_by_role("alert")).to_be_visible()
    expect(ada.get_by_role("button", name="Approve")).to_be_hidden()


def test_an_invitation_is_accepted(installation: Installation, ada: Page, chromium: Browser) -> None:
    """Ada invites by the API as her page would; Bob opens the link, signs in on the way, and accepts."""
    api = str(installation.run["api"])
    made = ada.request.post(
        f"{api}/api/invitations",
        headers={"X-Homeport-CSRF": "1"},
        data={"email": "bob@example.org", "teams": [{"team": "home", "role": "DEVELOPER"}]},
    )
    assert made.status == 201, made.text()
    invitation = made.json()
    with somebody(chromium) as bob:
        bob.goto(f"{api}/invitations/{invitation['id']}#{invitation['token']}")
        assert invitation["token"] not in bob.url  # nor in what the browser remembers
        sign_in(bob, "Bob", "bob@example.org")
        expect(bob.locator("#email")).to_have_text("bob@example.org")
        accept = bob.get_by_role("button", name="Accept")
        expect(accept).to_be_focused()
        accept.press("Enter")
        expect(bob.get_by_text("Welcome.")).to_be_visible()
        expect(bob.locator("#done")).to_contain_text("DEVELOPER")
        # What one may do is remembered for half a second.
        deadline = time.monotonic() + 30
        while not (teams := bob.request.get(f"{api}/api/auth/me").json()["teams"]) and time.monotonic() < deadline:
            bob.wait_for_timeout(50)
        assert [(team["id"], team["role"]) for team in teams] == [("home", "DEVELOPER")]
