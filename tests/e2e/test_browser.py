"""The demo device's page in Chromium, through the gateway: a person signs in on the way to it, and then the page, its
event stream, its WebSocket, a download.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.stack.installation import Installation
from tests.stack.tools import tool

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def page(installation: Installation) -> Iterator[Page]:
    """The demo page, opened as a person does, who is sent to sign in and comes back to it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=ARGUMENTS)
        context = browser.new_context()
        opened = context.new_page()
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        url = installation.url(installation.run["demo_device"], installation.run["demo_service"])
        opened.goto(url)
        # The first person to sign in at a fresh installation is ADMIN of its team; test_console knows her, too.
        opened.get_by_label("Name").fill("Ada Lovelace")
        opened.get_by_label("E-mail").fill("ada@example.org")
        opened.get_by_label("E-mail").press("Enter")
        opened.wait_for_url(url)
        yield opened
        browser.close()
    assert problems == []


def test_the_page_shows_the_device(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("You have reached a device.")
    expect(page.locator("#hop-service")).to_contain_text("answers 200")


def test_events_arrive_one_by_one(page: Page) -> None:
    expect(page.locator("#clock-status")).to_have_text("event 3 on this stream")


def test_a_websocket_message_comes_back(page: Page) -> None:
    expect(page.locator("#echo-status")).to_have_text("open")
    page.locator("#echo-text").fill("through the tunnel")
    page.locator("#echo-send").click()
    expect(page.locator("#echo-log li").first).to_contain_text("through the tunnel")


def test_a_download_is_complete(page: Page) -> None:
    page.get_by_role("button", name="16 MB").click()
    expect(page.locator("#bytes-status")).to_contain_text("16,000,000 bytes in", timeout=60_000)


def test_g2_the_page_sees_nothing_of_who_signed_in(page: Page) -> None:
    expect(page.locator("#headers")).to_contain_text("Host")
    assert "homeport_" not in page.content()
    assert "homeport" not in page.evaluate("document.cookie")


def test_signing_out_at_the_console_ends_it_here(page: Page, installation: Installation) -> None:
    here = page.url
    [cookie] = [each for each in page.context.cookies() if each["name"].startswith("homeport_gateway_")]
    assert here.endswith(cookie["path"] + "/")
    console = page.context.new_page()
    console.goto(f"{installation.run['api']}/device")
    signed_out = console.evaluate(
        "fetch('/api/auth/logout', {method: 'POST', headers: {'X-Homeport-CSRF': '1'}}).then(answer => answer.status)"
    )
    assert signed_out == 200
    page.goto(here)
    expect(page.get_by_label("E-mail")).to_be_visible()
