"""Services with a host each, in Chromium: a person signs in on the way to one, and is nobody at its neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.test_browser import ARGUMENTS
from tests.stack.installation import Installation, homeport_up
from tests.stack.tools import tool

DOMAIN = "gw.localhost"
"""Chromium resolves each name below `localhost` to this machine."""


@pytest.fixture(scope="module")
def own_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    environment = {"HOMEPORT_GATEWAY_DOMAIN": DOMAIN, "HOMEPORT_GATEWAY_SIGN_IN": "own_hosts"}
    with homeport_up(tmp_path_factory.mktemp("own-hosts"), environment) as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=ARGUMENTS)
        yield browser.new_page()
        browser.close()


def host(installation: Installation, service: str) -> str:
    port = urlsplit(installation.gateway).port
    return f"http://{service}--{installation.run['demo_device']}--{installation.team}.{DOMAIN}:{port}"


def test_a_person_signs_in_on_the_way_and_the_cookie_is_that_hosts(own_hosts: Installation, page: Page) -> None:
    url = host(own_hosts, str(own_hosts.run["demo_service"])) + "/"
    page.goto(url)
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail").fill("ada@example.org")
    page.get_by_label("E-mail").press("Enter")
    page.wait_for_url(url)
    expect(page.get_by_role("heading", level=1)).to_have_text("You have reached a device.")
    expect(page.locator("#echo-status")).to_have_text("open")
    cookies = [each for each in page.context.cookies() if each["name"].startswith("homeport_gateway_")]
    kept = [(each["domain"], each["path"]) for each in cookies if "signin" not in each["name"]]
    assert kept == [(urlsplit(url).hostname, "/")]


def test_its_neighbour_is_another_origin(own_hosts: Installation, page: Page) -> None:
    """A page cannot so much as ask, in the name of who looks at it: below `/d/` it could."""
    neighbour = host(own_hosts, "other") + "/"
    script = "url => fetch(url, {credentials: 'include'}).then(answer => answer.status, error => String(error))"
    assert "TypeError" in str(page.evaluate(script, neighbour))


def test_below_d_a_token_is_needed(own_hosts: Installation) -> None:
    url = own_hosts.url(str(own_hosts.run["demo_device"]), str(own_hosts.run["demo_service"]))
    browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert httpx.get(url, headers=browser, trust_env=False).status_code == 401
    assert httpx.get(url, headers=browser | own_hosts.authorization, trust_env=False).status_code == 200
