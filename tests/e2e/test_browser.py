"""The demo device's page in Chromium, through the gateway: the page, its event stream, its WebSocket, a download."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.stack.installation import Installation
from tests.stack.tools import tool

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def page(installation: Installation) -> Iterator[Page]:
    """The demo page, opened as a person does: the browser asks for a password, which is the token."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=ARGUMENTS)
        context = browser.new_context(http_credentials={"username": "token", "password": installation.token})
        opened = context.new_page()
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.goto(installation.url(installation.run["demo_device"], installation.run["demo_service"]))
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


def test_the_page_cannot_see_the_token(page: Page, installation: Installation) -> None:
    expect(page.locator("#headers")).to_contain_text("Host")
    assert installation.token not in page.content()
