"""A page of another origin, in Chromium, and a route that lets it in: what browsers make of what the gateway says."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.test_browser import ARGUMENTS
from tests.stack.installation import Installation
from tests.stack.tools import tool

FETCH = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return {status: answer.status, body: await answer.text(), server: answer.headers.get("server")};
    } catch (error) {
        return {error: String(error)};
    }
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page is."""
    folder: Path = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><title>another origin</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def page(origin: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=ARGUMENTS)
        opened = browser.new_page()
        opened.goto(origin)
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def url(installation: Installation, origin: str) -> Iterator[str]:
    """Of a route to the demo service that lets the page in."""
    cors = {"origins": [origin], "methods": ["GET", "PUT"], "headers": ["Authorization", "Content-Type"]}
    target = {
        "kind": "device",
        "device": installation.run["demo_device"],
        "service": installation.run["demo_service"],
    }
    with installation.client() as api:
        made = api.post("/api/routes", json={"name": "cors", "path": "/cors", "target": target, "cors": cors})
        assert made.status_code == 201, made.text
        yield f"{installation.gateway}/cors"
        assert api.delete("/api/routes/cors").status_code == 204


def test_a_page_that_may_reads_the_answer(page: Page, url: str, installation: Installation) -> None:
    got = page.evaluate(FETCH, [f"{url}/bytes/3", {"headers": installation.authorization}])
    assert got["status"] == 200, got
    # What the route does not expose cannot be read.
    assert got["server"] is None


def test_it_reads_why_it_is_refused(page: Page, url: str) -> None:
    got = page.evaluate(FETCH, [f"{url}/bytes/3", {}])
    assert got["status"] == 401, got
    assert "unauthenticated" in got["body"]


def test_it_does_what_the_route_allows_and_no_more(page: Page, url: str, installation: Installation) -> None:
    json = installation.authorization | {"Content-Type": "application/json"}
    posted = page.evaluate(FETCH, [f"{url}/sha256", {"method": "POST", "headers": json, "body": "{}"}])
    assert posted["status"] == 200, posted
    for options in ({"method": "DELETE", "headers": json}, {"headers": json | {"X-Other": "a"}}):
        assert "error" in page.evaluate(FETCH, [f"{url}/sha256", options])


def test_a_service_without_a_route_lets_nobody_in(page: Page, installation: Installation) -> None:
    url = installation.url(installation.run["demo_device"], installation.run["demo_service"], "/bytes/3")
    assert "error" in page.evaluate(FETCH, [url, {"headers": installation.authorization}])
