"""Signing in to what `homeport up` runs, by its own provider: without a browser, and in Chromium the whole way."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from homeport.settings import UpSettings
from homeport.up.data_directory import DataDirectory
from homeport.up.plan import Plan
from tests.homeport.up.running import Up, clean_environment, homeport, running_up
from tests.stack.tools import tool

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CSRF = {"X-Homeport-CSRF": "1"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def up(data_dir: Path) -> Iterator[Up]:
    with running_up(data_dir, "--no-demo") as shared:
        yield shared


def browser() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=30, verify=False)


def signed_in(http: httpx.Client, up: Up, **person: str) -> httpx.Response:
    """Sign in by the provider's page; the answer of the callback."""
    run = up.run
    login = http.get(f"{run['api']}/api/auth/login?return_to=/api/auth/me")
    assert login.status_code == 303
    page = http.get(login.headers["Location"]).text.partition("<label>")[0]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    chosen = http.post(f"{run['issuer']}/authorize", data=fields | person)
    assert chosen.status_code == 303, chosen.text
    return http.get(chosen.headers["Location"])


def test_the_first_person_runs_the_installation_and_the_second_belongs_nowhere(up: Up) -> None:
    api = up.run["api"]
    with browser() as ada, browser() as bob:
        assert signed_in(ada, up, name="Ada", email="ada@example.org").status_code == 303
        me = ada.get(f"{api}/api/auth/me").json()
        assert [(team["id"], team["role"]) for team in me["teams"]] == [("home", "ADMIN")]
        assert ada.get(f"{api}/api/sessions").status_code == 200
        signed_in(bob, up, name="Bob", email="bob@example.org")
        assert bob.get(f"{api}/api/auth/me").json()["teams"] == []
        assert bob.get(f"{api}/api/sessions?team=home").status_code == 404


def test_the_provider_signs_out_by_the_back_channel(up: Up) -> None:
    run = up.run
    with browser() as http:
        signed_in(http, up, name="Ada", email="ada@example.org")
        assert http.get(f"{run['api']}/api/auth/me").status_code == 200
        page = http.get(run["issuer"]).text
        sid = re.findall(r'name="sid" value="(\w+)"', page)[-1]
        assert http.post(f"{run['issuer']}/sign-out", data={"sid": sid}).status_code == 303
        assert http.get(f"{run['api']}/api/auth/me").status_code == 401


def test_the_gateway_does_not_take_the_cookie(up: Up) -> None:
    run = up.run
    with browser() as http:
        signed_in(http, up, name="Ada", email="ada@example.org")
        assert http.get(f"{run['gateway']}/d/home/demo/demo/headers").status_code == 401


def test_in_chromium_in_and_out_again(up: Up) -> None:
    run = up.run
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=tool("chromium"), args=ARGUMENTS)
        page = chromium.new_page()
        page.goto(f"{run['api'].replace('127.0.0.1', 'localhost')}/api/auth/login?return_to=/api/auth/me")
        expect(page.get_by_text("asks for no password")).to_be_visible()
        page.get_by_label("Name").fill("Grace Hopper")
        page.get_by_label("E-mail").fill("grace@example.org")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{run['api']}/api/auth/me")
        me = json.loads(page.locator("pre").inner_text())
        assert me["user"]["name"] == "Grace Hopper"
        assert page.evaluate("document.cookie") == ""  # HttpOnly
        cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
        assert cookies["homeport_session"]["sameSite"] == "Lax"
        assert not [name for name in cookies if name.startswith("homeport_signin_")]

        # What another site makes the browser send changes nothing: no header, no token.
        forged = page.request.post(f"{run['api']}/api/auth/logout")
        assert forged.json()["code"] == "csrf_header_missing"
        out = page.request.post(f"{run['api']}/api/auth/logout", headers=CSRF)
        page.goto(out.json()["end_session_url"])
        page.wait_for_url(f"{run['api']}/docs")
        assert page.request.get(f"{run['api']}/api/auth/me").json()["code"] == "unauthenticated"

        # The next time there is a button with the name.
        page.goto(f"{run['api']}/api/auth/login?return_to=/api/auth/me")
        page.get_by_role("button", name="Grace Hopper").click()
        page.wait_for_url(f"{run['api']}/api/auth/me")
        assert json.loads(page.locator("pre").inner_text())["id"] == me["id"]
        chromium.close()


def test_people_are_the_same_after_a_restart(up: Up, data_dir: Path) -> None:
    """Last: it ends what the others use. The session goes on, and so does who the first person was."""
    port = up.run["api"].rpartition(":")[2]
    with browser() as http:
        signed_in(http, up, name="Ada", email="ada@example.org")
        before, issuer = http.get(f"{up.run['api']}/api/auth/me").json(), up.run["issuer"]
        assert up.stop() == 0
        with running_up(data_dir, "--no-demo", "--api-port", port) as again:
            assert again.run["issuer"] == issuer
            assert http.get(f"{again.run['api']}/api/auth/me").json() == before
            signed_in(http, again, name="Ada", email="ada@example.org")
            assert http.get(f"{again.run['api']}/api/auth/me").json()["id"] == before["id"]


@pytest.mark.parametrize(
    "arguments",
    [("--host", "0.0.0.0"), ("--host", "::"), ("--public-url", "https://homeport.example.org")],
)
def test_the_provider_is_refused_where_others_could_reach_it(tmp_path: Path, arguments: tuple[str, str]) -> None:
    command = homeport("dev-idp", "--port", "0", "--data-dir", tmp_path, *arguments, "--json")
    result = subprocess.run(command, capture_output=True, env=clean_environment(), check=False, timeout=60)
    assert result.returncode == 1
    assert b"dev_provider_refused" in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "runs"),
    [
        ({}, True),
        ({"HOMEPORT_PUBLIC_URL": "http://localhost:3721"}, True),
        ({"HOMEPORT_PUBLIC_URL": "https://homeport.example.org"}, False),
        ({"HOMEPORT_API_HOST": "0.0.0.0"}, False),
        ({"HOMEPORT_OIDC_ISSUER": "https://provider.example.org"}, False),
    ],
)
def test_up_brings_a_provider_for_one_machine_only(tmp_path: Path, environ: dict[str, str], runs: bool) -> None:
    plan = Plan(UpSettings(), DataDirectory(tmp_path / "data"), None, environ)
    assert plan.runs_dev_idp is runs
