"""People's browsers on pages that the gateway serves: through the console and back, with a cookie for one place."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from api_server.auth.browsers import FINISH_PATH, Place
from api_server.auth.interfaces import Decision
from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.auth.signin.errors import TicketRefusedError
from api_server.auth.signin.gateway import GATEWAY_PATH, GatewaySignIn
from api_server.http.errors import ValidationFailedError
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.auth.signin.stage import CSRF, Browser, staged
from tests.api_server.auth.signin.stage import Stage as Console
from tests.api_server.gateway.stage import BEARER, CALLER, Client, Stage
from tests.api_server.relay.fake_relay import HOME, ServiceSide

pytestmark = pytest.mark.anyio

PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SCRIPT = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
CAM = "/d/home/cam/web"


class Later:
    """The places of a gateway that is there later."""

    def __init__(self) -> None:
        self.stage: Stage | None = None

    def find(self, host: str, path: str) -> Place | None:
        assert self.stage is not None
        return self.stage.gateway.places.find(host, path)

    def url(self) -> str:
        assert self.stage is not None
        return f"http://127.0.0.1:{self.stage.port}"


@dataclass
class Both:
    """The console, the gateway, and what the service was sent."""

    console: Console
    gateway: Stage
    heads: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    async def browser(self, *, signed_in: bool = True) -> Browser:
        browser = await self.console.browser()
        if signed_in:
            assert (await browser.sign_in()).status_code == 303
        return browser

    async def open(self, browser: Browser, path: str = CAM + "/") -> httpx.Response:
        """Open a page as a person does, by the redirects, with the provider's page filled in."""
        answer = await browser.get(self.url + path, headers=PAGE)
        for _ in range(8):
            goes_on = re.search('http-equiv="refresh" content="0; url=([^"]+)"', answer.text)
            if answer.status_code != 303 and goes_on is None:
                return answer
            location = answer.headers["Location"] if goes_on is None else unescape(goes_on[1])
            if location.startswith(self.console.provider.issuer):
                answer = await browser.come_back(self.console.provider.authorize(location))
            else:
                answer = await browser.get(location, headers=PAGE)
        raise AssertionError("there is no end to it")

    async def ticket(self, browser: Browser, path: str = CAM + "/") -> str:
        """The URL with a ticket that a signed-in browser gets for a page."""
        begun = await browser.get(self.url + path, headers=PAGE)
        assert begun.status_code == 303
        sent = await browser.get(begun.headers["Location"])
        assert sent.status_code == 303, sent.text
        return str(sent.headers["Location"])


@asynccontextmanager
async def both(signer: SessionTokenSigner, *, configured: bool = True) -> AsyncIterator[Both]:
    heads: list[str] = []

    async def serve(side: ServiceSide) -> None:
        while True:
            heads.append((await side.read_head()).decode())
            if "Upgrade: echo" in heads[-1]:
                await side.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                while data := await side.reader.read(1000):
                    await side.send(data.upper())
                return
            await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Type: text/html\r\n\r\nthe page")

    later = Later()
    async with (
        staged(signer, configured=configured, places=later, gateway=later.url) as console,
        Stage(web=serve, other=serve, browsers=console.gateway if configured else None) as gateway,
    ):
        later.stage = gateway
        yield Both(console, gateway, heads)


class TestTheWay:
    async def test_of_somebody_who_is_not_signed_in(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser(signed_in=False)
            answer = await stage.open(browser, CAM + "/a?b=c%20d")
            assert (answer.status_code, answer.text) == (200, "the page")
            assert str(answer.url) == f"{stage.url}{CAM}/a?b=c%20d"
            assert stage.heads[0].startswith("GET /a?b=c%20d HTTP/1.1\r\n")

    async def test_of_somebody_who_is(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            assert (await stage.open(browser)).status_code == 200
            again = await browser.get(f"{stage.url}{CAM}/more", headers=PAGE)
            assert again.status_code == 200

    async def test_g2_no_cookie_of_ours_reaches_the_service(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            browser.http.cookies.set("theme", "dark", domain="127.0.0.1", path="/")
            await stage.open(browser)
            assert "Cookie: theme=dark\r\n" in stage.heads[-1]
            assert "homeport" not in stage.heads[-1].lower().replace("/d/home/", "").replace("x-homeport", "")

    async def test_a_page_without_a_slash_gets_one(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            answer = await stage.open(await stage.browser(), CAM)
            assert (answer.status_code, answer.headers["Location"]) == (308, CAM + "/")

    async def test_a_url_that_is_too_long_is_cut(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            for asked, opened in ((f"/a?{'b' * 2000}", "/a"), ("/" + "a" * 2000, "/"), ("/a?b", "/a?b")):
                answer = await stage.open(await stage.browser(signed_in=False), CAM + asked)
                assert (answer.status_code, str(answer.url)) == (200, f"{stage.url}{CAM}{opened}")

    async def test_another_name_of_the_machine_is_left_first(self, signer: SessionTokenSigner) -> None:
        """The nonce would not be there when the browser comes back."""
        async with both(signer) as stage:
            browser = await stage.browser()
            answer = await browser.get(f"{stage.url}{CAM}/", headers=PAGE | {"Host": f"localhost:{stage.gateway.port}"})
            assert answer.headers["Location"] == f"{stage.url}{CAM}/"

    async def test_where_nobody_can_sign_in_it_is_401_as_ever(self, signer: SessionTokenSigner) -> None:
        async with both(signer, configured=False) as stage:
            browser = await stage.browser(signed_in=False)
            answer = await browser.get(f"{stage.url}{CAM}/", headers=PAGE)
            assert answer.status_code == 401
            assert len(answer.headers.get_list("WWW-Authenticate")) == 2
            query = urlencode({"return_to": f"{stage.url}{CAM}/", "state": "0" * 64})
            assert (await browser.get(f"{GATEWAY_PATH}?{query}")).status_code == 503

    @pytest.mark.parametrize(
        "headers",
        [
            SCRIPT,
            {"Accept": "application/json"},
            {},
            PAGE | {"Sec-Fetch-Dest": "iframe"},
            PAGE | {"Connection": "Upgrade", "Upgrade": "websocket"},
        ],
        ids=["a script", "JSON", "curl", "a frame", "a WebSocket"],
    )
    async def test_what_is_no_page_gets_an_error_that_it_can_read(
        self, signer: SessionTokenSigner, headers: dict[str, str]
    ) -> None:
        async with both(signer) as stage:
            answer = await (await stage.browser()).get(f"{stage.url}{CAM}/", headers={"Accept": "*/*"} | headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            asks = [value.partition(" ")[0] for value in answer.headers.get_list("WWW-Authenticate")]
            assert asks == (["Bearer"] if "Sec-Fetch-Mode" in headers else ["Bearer", "Basic"])

    async def test_a_token_needs_none_of_it(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser(signed_in=False)
            answer = await browser.get(f"{stage.url}{CAM}/", headers=PAGE | {"Authorization": f"Bearer {CALLER}"})
            assert answer.status_code == 200


class TestTickets:
    async def test_one_counts_once(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            url = await stage.ticket(browser)
            nonces = browser.http.cookies.jar.__class__()
            for cookie in browser.http.cookies.jar:
                nonces.set_cookie(cookie)
            assert (await browser.get(url)).status_code == 303
            for cookie in nonces:  # as if somebody had kept it
                browser.http.cookies.jar.set_cookie(cookie)
            assert_refused(await browser.get(url))

    async def test_it_is_of_use_to_no_other_browser(self, signer: SessionTokenSigner) -> None:
        """Neither to one that saw it, nor can somebody be signed in as somebody else by a link."""
        async with both(signer) as stage:
            url = await stage.ticket(await stage.browser())
            other = await stage.browser()
            assert_refused(await other.get(url))
            await other.get(f"{stage.url}{CAM}/", headers=PAGE)  # it has a nonce of its own now
            assert_refused(await other.get(url))

    async def test_it_lives_for_thirty_seconds(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            url = await stage.ticket(browser)
            stage.console.clock.advance(30)
            assert_refused(await browser.get(url))

    async def test_it_ends_with_the_session(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            url = await stage.ticket(browser)
            assert (await browser.http.post("/api/auth/logout", headers=CSRF)).status_code == 200
            assert_refused(await browser.get(url))

    @pytest.mark.parametrize("bad", ["", "x", "a.b", "ticket", "%00", "x" * 5000])
    async def test_what_is_none_is_refused(self, signer: SessionTokenSigner, bad: str) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            assert_refused(await browser.get(f"{stage.url}{FINISH_PATH}?ticket={bad}"))
            assert_refused(await browser.get(f"{stage.url}{FINISH_PATH}?{bad}"))

    async def test_one_that_was_altered_is_refused(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            url = await stage.ticket(browser)
            for at in range(url.index("ticket=") + 7, len(url), 7):
                assert_refused(await browser.get(url[:at] + ("A" if url[at] != "A" else "B") + url[at + 1 :]))
            assert (await browser.get(url)).status_code == 303

    async def test_a_cookie_is_no_ticket_and_a_ticket_no_cookie(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            [cookie] = [each for each in browser.http.cookies.jar if each.path == CAM]
            assert_refused(await browser.get(f"{stage.url}{FINISH_PATH}?ticket={cookie.value}"))
            ticket = parse_qs(urlsplit(await stage.ticket(await stage.browser())).query)["ticket"][0]
            browser.http.cookies.set(cookie.name, ticket, domain="127.0.0.1", path=CAM)
            assert (await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)).status_code == 401


class TestTheCookie:
    async def test_it_is_for_one_place(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            url = await stage.ticket(browser)
            line = next(
                each for each in (await browser.get(url)).headers.get_list("Set-Cookie") if f"Path={CAM};" in each
            )
            name, _, rest = line.partition("=")
            assert name.startswith("homeport_gateway_")
            assert rest.partition("; ")[2] == f"Path={CAM}; HttpOnly; SameSite=Lax"
            value = rest.partition(";")[0]
            for path in ("/d/home/cam/other/", "/d/home/cam/webs/", "/d/away/cam/web/"):
                answer = await browser.get(stage.url + path, headers=SCRIPT | {"Cookie": f"{name}={value}"})
                assert answer.status_code == 401, path
            assert (await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)).status_code == 200

    async def test_the_consoles_is_worth_nothing_here_nor_this_one_there(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            session = browser.cookie("homeport_session")
            answer = await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)
            assert (answer.status_code, session is not None) == (401, True)
            await stage.open(browser)
            [cookie] = [each for each in browser.http.cookies.jar if each.path == CAM]
            other = await stage.browser(signed_in=False)
            answer = await other.get("/api/auth/me", headers={"Cookie": f"homeport_session={cookie.value}"})
            assert answer.status_code == 401

    @pytest.mark.parametrize(
        ("method", "headers", "status"),
        [
            ("POST", {"Sec-Fetch-Site": "same-origin"}, 200),
            ("POST", {"Sec-Fetch-Site": "same-site"}, 403),
            ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
            ("DELETE", {"Origin": "https://evil.example"}, 403),
            ("GET", {"Sec-Fetch-Site": "cross-site"}, 200),
            ("GET", {"Sec-Fetch-Site": "cross-site", "Connection": "Upgrade", "Upgrade": "websocket"}, 403),
        ],
    )
    async def test_other_sites_do_not_act_with_it(
        self, signer: SessionTokenSigner, method: str, headers: dict[str, str], status: int
    ) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            answer = await browser.http.request(method, f"{stage.url}{CAM}/", headers=headers)
            assert answer.status_code == status

    async def test_signing_out_ends_it_within_a_second(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            assert (await browser.http.post("/api/auth/logout", headers=CSRF)).status_code == 200
            assert (await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)).status_code == 401
            answer = await browser.get(f"{stage.url}{CAM}/", headers=PAGE)
            assert answer.headers["Location"].startswith(f"{stage.console.api.url}{GATEWAY_PATH}?")

    async def test_another_process_ends_it_within_a_second(self, signer: SessionTokenSigner) -> None:
        """Nothing tells this one of it: what it knows is half a second old at most."""
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            [user] = stage.console.store.users.values()
            stage.console.store.disabled.add(user.id)
            stage.console.clock.advance(0.6)
            assert (await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)).status_code == 401

    async def test_a_role_that_is_taken_away_ends_it_within_a_second(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            stage.console.teams.roles = {HOME: Role.VIEWER}
            stage.console.clock.advance(0.6)
            assert (await browser.get(f"{stage.url}{CAM}/", headers=PAGE)).status_code == 403
            stage.console.teams.roles = {}
            stage.console.clock.advance(0.6)
            assert (await browser.get(f"{stage.url}{CAM}/", headers=PAGE)).status_code == 404

    async def test_a_request_in_between_looks_nothing_up(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            asked = stage.console.store.asked
            for _ in range(5):
                assert (await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)).status_code == 200
            assert stage.console.store.asked == asked

    async def test_a_database_that_is_away_lets_nobody_in(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            await stage.open(browser)
            stage.console.store.away = True
            stage.console.clock.advance(0.6)
            assert (await browser.get(f"{stage.url}{CAM}/", headers=SCRIPT)).status_code == 503


class TestWhatIsUnderWay:
    """A WebSocket or an event stream would outlive the session of its person: it is looked at again."""

    @staticmethod
    async def socket(stage: Both, browser: Browser) -> Client:
        """An upgraded connection of the browser's page."""
        await stage.open(browser)
        [cookie] = [each for each in browser.http.cookies.jar if each.path == CAM]
        client = await stage.gateway.connect()
        upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\nSec-Fetch-Site: same-origin\r\n"
        await client.send(
            f"GET {CAM}/socket HTTP/1.1\r\nHost: gw\r\nCookie: {cookie.name}={cookie.value}\r\n{upgrade}\r\n"
        )
        assert (await client.head()).status == 101
        return client

    async def goes_on(self, stage: Both, client: Client) -> None:
        for _ in range(3):
            stage.gateway.advance(1)
            stage.console.clock.advance(1)
            await stage.gateway.turn()
        await client.send(b"ping")
        assert await client.read(4) == b"PING"

    async def test_it_ends_with_the_session(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            browser = await stage.browser()
            client = await self.socket(stage, browser)
            await self.goes_on(stage, client)
            assert (await browser.http.post("/api/auth/logout", headers=CSRF)).status_code == 200
            stage.gateway.advance(0.5)
            assert await client.was_cut()

    async def test_it_ends_with_the_role(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            client = await self.socket(stage, await stage.browser())
            stage.console.teams.roles = {HOME: Role.VIEWER}
            stage.console.clock.advance(0.5)
            stage.gateway.advance(0.5)
            assert await client.was_cut()

    async def test_it_goes_on_while_that_cannot_be_told(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            client = await self.socket(stage, await stage.browser())
            stage.console.store.away = True
            await self.goes_on(stage, client)
            stage.console.store.away = False
            await self.goes_on(stage, client)

    async def test_a_program_is_not_looked_at(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            client = await stage.gateway.connect()
            upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n"
            await client.send(f"GET {CAM}/socket HTTP/1.1\r\nHost: gw\r\n{BEARER}{upgrade}\r\n")
            assert (await client.head()).status == 101
            asked = stage.console.store.asked
            await self.goes_on(stage, client)
            assert stage.console.store.asked == asked


class TestTheConsole:
    @pytest.mark.parametrize(
        "return_to",
        [
            "https://evil.example/",
            "http://127.0.0.1.evil.example/",
            "//evil.example/d/home/cam/web/",
            "/d/home/cam/web/",
            "{gateway}.evil.example/",
            "{gateway}@evil.example/",
            "http://user@127.0.0.1/",
            "{gateway}",
            "{gateway}\\@evil.example/",
            "{gateway}/d/home/cam/web/#fragment",
            "{gateway}/d/home/cam/web/\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "https://127.0.0.1/d/home/cam/web/",
            "{console}/d/home/cam/web/",
        ],
    )
    async def test_there_is_no_open_redirect(self, signer: SessionTokenSigner, return_to: str) -> None:
        async with both(signer) as stage:
            url = return_to.replace("{gateway}", stage.url).replace("{console}", stage.console.api.url)
            for signed_in in (True, False):
                browser = await stage.browser(signed_in=signed_in)
                query = urlencode({"return_to": url, "state": "0" * 64})
                answer = await browser.get(f"{GATEWAY_PATH}?{query}")
                assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")

    @pytest.mark.parametrize("path", ["/d/away/cam/web/", "/nothing", "/t/home/cam/web", "/d/home//web/", "/"])
    async def test_what_is_not_there_or_of_another_team_is_404(self, signer: SessionTokenSigner, path: str) -> None:
        """A2: never told apart."""
        async with both(signer) as stage:
            query = urlencode({"return_to": stage.url + path, "state": "0" * 64})
            answer = await (await stage.browser()).get(f"{GATEWAY_PATH}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (404, "no_such_place")

    async def test_who_may_not_call_it_is_told_so(self, signer: SessionTokenSigner) -> None:
        async with both(signer) as stage:
            stage.console.teams.roles = {HOME: Role.VIEWER}
            query = urlencode({"return_to": f"{stage.url}{CAM}/", "state": "0" * 64})
            answer = await (await stage.browser()).get(f"{GATEWAY_PATH}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    @pytest.mark.parametrize("state", ["", "0", "0" * 63, "g" * 64, "A" * 64])
    async def test_the_state_is_a_hash(self, signer: SessionTokenSigner, state: str) -> None:
        async with both(signer) as stage:
            query = urlencode({"return_to": f"{stage.url}{CAM}/", "state": state})
            assert (await (await stage.browser()).get(f"{GATEWAY_PATH}?{query}")).status_code == 422


def assert_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (400, "ticket_refused")
    assert "Set-Cookie" not in answer.headers


class TestOnTls:
    """Cookies on TLS, and services that have a host each."""

    HOST = "web--cam--home.gw.example"
    REALM = "homeport home/cam/web"

    @staticmethod
    def sign_in(console: Console, *, own_hosts: bool = False) -> GatewaySignIn:
        return GatewaySignIn(
            configured=True,
            keys=CookieKeys(new_cookie_key()),
            store=console.store,
            sessions=console.sessions,
            clock=console.clock,
            console=lambda: "https://console.example",
            gateway=lambda: "https://gw.example",
            fixed=True,
            domain="gw.example",
            own_hosts=own_hosts,
        )

    def find(self, host: str, path: str) -> Place | None:
        if host == self.HOST:
            return Place(HOME, self.REALM, "/", lambda _: Decision.ALLOWED)
        assert host == "gw.example"
        return Place(TeamId("home"), self.REALM, CAM, lambda _: Decision.ALLOWED)

    @pytest.mark.parametrize(("host", "target"), [(HOST, "/a?b"), ("gw.example", CAM + "/a?b")])
    async def test_the_whole_way(self, signer: SessionTokenSigner, host: str, target: str) -> None:
        async with staged(signer) as console:
            browser = await console.browser()
            await browser.sign_in()
            session = f"homeport_session={browser.cookie('homeport_session')}"
            at = self.sign_in(console)
            begun = at.begin(host=host, target=target, root="/", realm=self.REALM)
            assert begun is not None
            url, query = begun.url.split("?", 1)
            assert url == "https://console.example/api/auth/gateway"
            [nonce] = begun.cookies
            assert nonce.startswith("__Secure-homeport_gateway_signin_")
            assert nonce.endswith(f"; Path={FINISH_PATH}; Max-Age=600; Secure; HttpOnly; SameSite=Lax")
            asked = {name: values[0] for name, values in parse_qs(query).items()}
            assert asked["return_to"] == f"https://{host}{target}"
            onward = await at.onward(self, return_to=asked["return_to"], state=asked["state"], cookies=session)
            back = onward.url
            assert back.startswith(f"https://{host}{FINISH_PATH}?ticket=")
            ticket = back.partition("ticket=")[2]
            cookies = nonce.partition(";")[0]
            let_in = await at.finish(ticket=ticket, cookies=cookies)
            assert let_in.url == f"https://{host}{target}"
            granted, taken = let_in.cookies
            prefix, path = ("__Host-", "/") if host == self.HOST else ("__Secure-", CAM)
            assert granted.startswith(f"{prefix}homeport_gateway_")
            assert granted.endswith(f"; Path={path}; Secure; HttpOnly; SameSite=Lax")
            assert "Max-Age=0" in taken
            shown = granted.partition(";")[0]
            identity = await at.authenticate(shown, self.REALM)
            assert identity is not None
            assert at.authenticate_nowait(shown, self.REALM) == identity
            assert await at.authenticate(shown, "homeport home/cam/other") is None
            assert at.authenticate_nowait(shown.replace(prefix, ""), self.REALM) is None, (
                "a name that TLS does not have"
            )
            with pytest.raises(TicketRefusedError):
                await at.finish(ticket=ticket, cookies=cookies)

    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example/",
            "https://gw.example.evil.example/",
            "https://evilgw.example/",
            "http://gw.example/",
            "https://gw.example:8443/",
            "https://a.gw.example:8443/",
        ],
    )
    async def test_there_is_no_open_redirect(self, signer: SessionTokenSigner, url: str) -> None:
        async with staged(signer) as console:
            with pytest.raises(ValidationFailedError):
                await self.sign_in(console).onward(self, return_to=url, state="0" * 64, cookies="")

    async def test_it_can_be_for_those_hosts_alone(self, signer: SessionTokenSigner) -> None:
        async with staged(signer) as console:
            at = self.sign_in(console, own_hosts=True)
            assert at.begin(host=self.HOST, target="/", root="/", realm=self.REALM) is not None
            assert at.begin(host="gw.example", target=CAM + "/", root=CAM + "/", realm=self.REALM) is None
            with pytest.raises(ValidationFailedError):
                await at.onward(self, return_to=f"https://gw.example{CAM}/", state="0" * 64, cookies="")
