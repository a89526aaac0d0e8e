"""S1 to S5 over HTTP: signing in and out, and everybody who tries to get in between."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from api_server.auth.signin.cookie_keys import CookieKeys, new_cookie_key
from api_server.teams.roles import Role
from common.crypto.session_tokens import SessionTokenSigner
from common.ids import TeamId
from tests.api_server.auth.oidc.provider import ISSUER, NOW, compact, ec_key, encode
from tests.api_server.auth.signin.stage import CSRF, FORM, parameters, staged
from tests.api_server.rest import ADMIN

pytestmark = pytest.mark.anyio


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_s1_the_whole_way(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        assert not await browser.is_signed_in()
        url = await browser.begin("/devices?page=2")
        assert url.startswith(f"{ISSUER}/authorize?")
        assert parameters(url)["redirect_uri"] == f"{stage.api.url}/api/auth/callback"
        answer = await browser.come_back(stage.provider.authorize(url, session_state="other", scope="openid"))
        assert (answer.status_code, answer.headers["Location"]) == (303, f"{stage.api.url}/devices?page=2")
        me = await browser.me()
        assert (me["kind"], me["user"]["name"], me["user"]["email"]) == ("user", "Ada Lovelace", "ada@example.org")
        assert [(team["id"], team["role"]) for team in me["teams"]] == [("home", "DEVELOPER")]
        assert "devices.create" in me["teams"][0]["actions"]
        assert "devices.change" not in me["teams"][0]["actions"]
        assert browser.transactions() == []


async def test_s2_the_cookies_without_tls(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        answer = await browser.get("/api/auth/login")
        by_name = {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}
        (name,) = [name for name in by_name if name.startswith("homeport_signin_")]
        assert by_name[name].endswith("; Path=/api/auth/callback; Max-Age=300; HttpOnly; SameSite=Lax")
        assert by_name["homeport_browser"].endswith("; Path=/; HttpOnly; SameSite=Lax")
        state = parameters(answer.headers["Location"])["state"]
        assert state not in answer.headers["set-cookie"]
        answer = await browser.come_back(stage.provider.authorize(answer.headers["Location"]))
        (line,) = [line for line in answer.headers.get_list("set-cookie") if line.startswith("homeport_session=")]
        assert line.endswith("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax")


async def test_s2_the_cookies_on_tls(signer: SessionTokenSigner) -> None:
    async with staged(signer, secure=True) as stage:
        browser = await stage.browser()
        answer = await browser.get("/api/auth/login")
        lines = answer.headers.get_list("set-cookie")
        names = sorted(line.partition("=")[0].rstrip("0123456789abcdef") for line in lines)
        assert names == ["__Host-homeport_browser", "__Secure-homeport_signin_"]
        assert all("; Secure; HttpOnly; SameSite=Lax" in line and "Domain" not in line for line in lines)
        cookies = "; ".join(line.partition(";")[0] for line in lines)
        answer = await browser.come_back(
            stage.provider.authorize(answer.headers["Location"]), headers={"Cookie": cookies}
        )
        (session,) = [line for line in answer.headers.get_list("set-cookie") if "_session=" in line]
        assert session.startswith("__Host-homeport_session=")
        assert "; Path=/; Max-Age=86400; Secure; HttpOnly; SameSite=Lax" in session


async def test_s2_parallel_sign_ins_each_come_back_where_they_began(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        urls = [await browser.begin(f"/page/{number}") for number in range(3)]
        assert len(browser.transactions()) == 3
        for number in (1, 0, 2):
            answer = await browser.come_back(stage.provider.authorize(urls[number]))
            assert answer.headers["Location"].endswith(f"/page/{number}")
        assert browser.transactions() == []


async def test_s2_few_sign_ins_at_a_time_and_the_oldest_makes_way(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        urls = [await browser.begin() for _ in range(8)]
        assert len(browser.transactions()) == 5
        assert code_of(await browser.come_back(stage.provider.authorize(urls[2]))) == (400, "invalid_callback")
        assert (await browser.come_back(stage.provider.authorize(urls[3]))).status_code == 303


async def test_s2_five_minutes(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        url = await browser.begin()
        stage.clock.advance(301)
        assert code_of(await browser.come_back(stage.provider.authorize(url))) == (400, "invalid_callback")


async def test_s2_only_a_hash_of_the_session_is_kept(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        cookie = browser.cookie("homeport_session")
        assert cookie is not None
        secret = cookie.partition(".")[0]
        assert len(secret) == 43
        assert secret not in repr(stage.store.sessions)
        assert secret not in stage.api.logs.getvalue()


# S3: sessions


async def test_s3_a_new_id_at_each_sign_in_and_the_old_one_ended(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        first = browser.cookie("homeport_session")
        await browser.sign_in()
        assert browser.cookie("homeport_session") != first
        assert [kept.ended for kept in stage.store.sessions.values()] == ["replaced", None]
        old = await stage.browser()
        answer = await old.get("/api/auth/me", headers={"Cookie": f"homeport_session={first}"})
        assert code_of(answer) == (401, "unauthenticated")


async def test_s3_a_session_that_is_idle_ends(signer: SessionTokenSigner) -> None:
    async with staged(signer, idle=600) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        for _ in range(5):
            stage.clock.advance(500)
            assert await browser.is_signed_in()
        stage.clock.advance(601)
        assert not await browser.is_signed_in()


async def test_s3_a_session_ends_whatever_happens(signer: SessionTokenSigner) -> None:
    async with staged(signer, idle=600, lifetime=1200) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        for _ in range(2):
            stage.clock.advance(500)
            assert await browser.is_signed_in()
        stage.clock.advance(201)
        assert not await browser.is_signed_in()


async def test_s3_use_is_written_down_once_a_minute(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        for _ in range(180):
            stage.clock.advance(1)
            assert await browser.is_signed_in()
        assert stage.store.touched == 3


async def test_s3_sessions_of_ones_own_are_listed_and_ended(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        first, second = await stage.browser(), await stage.browser()
        await first.sign_in()
        await second.come_back(
            stage.provider.authorize(await second.begin()), headers={"User-Agent": "Other\tBrowser/1"}
        )
        items = (await second.get("/api/auth/sessions")).json()["items"]
        assert [item["current"] for item in items] == [True, False]
        assert items[0]["user_agent"] == "OtherBrowser/1"
        assert items[0]["address"] == "127.0.0.1"
        answer = await second.http.delete(f"/api/auth/sessions/{items[1]['id']}", headers=CSRF)
        assert answer.status_code == 204
        assert not await first.is_signed_in()
        assert await second.is_signed_in()
        answer = await second.http.delete(f"/api/auth/sessions/{items[1]['id']}", headers=CSRF)
        assert code_of(answer) == (404, "no_such_sign_in_session")


async def test_s3_a_session_of_somebody_else_does_not_exist(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        ada, eve = await stage.browser(), await stage.browser()
        await ada.sign_in()
        stage.provider.person = {"sub": "person-2", "name": "Eve", "email": "eve@example.org"}
        await eve.sign_in()
        session = (await ada.me())["session"]
        answer = await eve.http.delete(f"/api/auth/sessions/{session}", headers=CSRF)
        assert code_of(answer) == (404, "no_such_sign_in_session")
        assert await ada.is_signed_in()
        assert len((await eve.get("/api/auth/sessions")).json()["items"]) == 1


async def test_s3_a_token_has_no_sessions(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        assert code_of(await stage.api.get("/api/auth/sessions")) == (404, "no_such_sign_in_session")
        assert code_of(await stage.api.call("POST", "/api/auth/logout", headers=CSRF)) == (
            404,
            "no_such_sign_in_session",
        )


async def test_s3_signing_out_ends_it_here_and_at_the_provider(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        cookie = browser.cookie("homeport_session")
        answer = await browser.http.post("/api/auth/logout", headers=CSRF)
        assert answer.status_code == 200
        end = answer.json()["end_session_url"]
        assert end.startswith(f"{ISSUER}/end?")
        assert parameters(end)["post_logout_redirect_uri"] == stage.api.url + "/"
        assert browser.cookie("homeport_session") is None
        # S5: the same once more, with the cookie from before
        old = {"Cookie": f"homeport_session={cookie}"}
        replay = await (await stage.browser()).http.post("/api/auth/logout", headers=CSRF | old)
        assert code_of(replay) == (401, "unauthenticated")


async def test_s3_signing_out_works_while_the_provider_is_away(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        stage.provider.away = {"/.well-known/openid-configuration"}
        stage.clock.advance(3599)
        answer = await browser.http.post("/api/auth/logout", headers=CSRF)
        assert answer.status_code == 200
        assert not await browser.is_signed_in()


async def test_s3_signing_out_by_a_form(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser, other = await stage.browser(), await stage.browser()
        await browser.sign_in()
        await other.sign_in()
        foreign = (await other.me())["csrf_token"]
        for form in ({}, {"csrf_token": ""}, {"csrf_token": foreign}, {"csrf_token": "\u00e9"}):
            refused = await browser.http.post("/api/auth/logout", data=form, headers=FORM)
            assert refused.status_code in (403, 422), form
        assert await browser.is_signed_in()
        token = (await browser.me())["csrf_token"]
        answer = await browser.http.post(
            "/api/auth/logout", data={"csrf_token": token}, headers={"Accept": "text/html"}
        )
        assert (answer.status_code, answer.headers["Location"][:24]) == (303, f"{ISSUER}/end"[:24])
        assert not await browser.is_signed_in()


async def test_s3_the_provider_signs_somebody_out(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        assert await browser.is_signed_in()
        answer = await stage.log_out(stage.provider.logout_token())
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        assert not await browser.is_signed_in()
        # S5: once more
        assert code_of(await stage.log_out(stage.provider.logout_token())) == (400, "logout_token_replayed")


@pytest.mark.parametrize("how", ["signed out", "role taken away"])
async def test_s3_a_stream_of_events_is_cut_too(signer: SessionTokenSigner, how: str) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        async with browser.http.stream("GET", "/api/events?team=home") as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            if how == "signed out":
                assert (await stage.log_out(stage.provider.logout_token())).status_code == 200
            else:
                stage.teams.roles = {}
                stage.clock.advance(1.0)
            with pytest.raises(httpx.HTTPError):
                async for _ in lines:
                    pass


async def test_s3_another_process_notices_within_a_second(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        assert await browser.is_signed_in()
        for kept in stage.store.sessions.values():
            kept.ended = "elsewhere"
        stage.clock.advance(1.0)
        assert not await browser.is_signed_in()


async def test_s3_a_session_is_looked_up_twice_a_second_at_most(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        stage.store.asked = 0
        for _ in range(50):
            assert (await browser.get("/api/auth/sessions")).status_code == 200
        assert stage.store.asked == 1


async def test_s3_a_logout_of_one_session_leaves_the_other(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        first, second = await stage.browser(), await stage.browser()
        await first.sign_in()
        stage.provider.person["sid"] = "provider-session-2"
        await second.sign_in()
        assert (await stage.log_out(stage.provider.logout_token())).status_code == 200
        assert (await first.is_signed_in(), await second.is_signed_in()) == (True, False)
        token = stage.provider.logout_token(jti="logout-2", sid=None)
        assert (await stage.log_out(token)).status_code == 200
        assert not await first.is_signed_in()


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "x" * 17_000])
async def test_s3_what_is_no_logout_token(signer: SessionTokenSigner, token: str) -> None:
    async with staged(signer) as stage:
        answer = await stage.log_out(token)
        assert answer.status_code in (400, 413, 422)
        assert "nonsense" not in answer.text


async def test_s3_a_logout_token_of_somebody_else(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        stage.provider.key = ec_key("attacker")
        assert code_of(await stage.log_out(stage.provider.logout_token())) == (400, "invalid_logout_token")
        assert await browser.is_signed_in()


# S4: what other sites can make a browser do


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "csrf_header_missing"),
        ({"Sec-Fetch-Site": "same-origin"}, "csrf_header_missing"),
        # S5: a sibling sub-domain is of the same site, so the cookie comes along.
        ({"Sec-Fetch-Site": "same-site"} | CSRF, "cross_site_request"),
        ({"Sec-Fetch-Site": "cross-site"} | CSRF, "cross_site_request"),
        ({"Origin": "https://evil.example.org"} | CSRF, "cross_site_request"),
        ({"Origin": "null"} | CSRF, "cross_site_request"),
    ],
)
async def test_s4_another_site_changes_nothing(signer: SessionTokenSigner, headers: dict[str, str], code: str) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        session = (await browser.me())["session"]
        for method, path in (
            ("POST", "/api/auth/logout"),
            ("DELETE", f"/api/auth/sessions/{session}"),
            ("DELETE", "/api/sessions/ses_" + "0" * 32),
        ):
            answer = await browser.http.request(method, path, headers=headers)
            assert code_of(answer) == (403, code), path
        assert await browser.is_signed_in()


async def test_s4_a_token_in_a_header_needs_no_csrf_header(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        bearer = {"Authorization": f"Bearer {ADMIN.reveal()}"}
        answer = await browser.http.delete("/api/sessions/ses_" + "0" * 32, headers=bearer)
        assert code_of(answer) == (404, "no_such_session")
        assert (await browser.get("/api/auth/me", headers=bearer)).json()["kind"] == "token"


async def test_s4_a_wrong_token_beside_a_good_cookie_is_nobody(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        answer = await browser.get("/api/auth/me", headers={"Authorization": f"Bearer {ADMIN.reveal()[:-1]}x"})
        assert code_of(answer) == (401, "unauthenticated")


async def test_s4_get_changes_nothing(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        for path in ("/api/auth/logout", "/api/auth/backchannel-logout"):
            assert (await browser.get(path)).status_code in (401, 405), path
        await browser.get("/api/auth/login")
        assert await browser.is_signed_in()


@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.test/",
        "//evil.test/",
        "///evil.test/",
        "/\\evil.test/",
        "\\\\evil.test",
        "/path\\..\\x",
        "javascript:alert(1)",
        "evil.test",
        "",
        "/\t/evil.test",
        "/\r\nSet-Cookie: a=b",
        "/ space",
        "/\u00e9",
        "/\u2028",
        "/" + "x" * 2048,
    ],
)
async def test_s4_no_open_redirect(signer: SessionTokenSigner, return_to: str) -> None:
    async with staged(signer) as stage:
        answer = await (await stage.browser()).get("/api/auth/login", params={"return_to": return_to})
        assert code_of(answer) == (422, "validation_failed")
        assert stage.provider.asked == []


@pytest.mark.parametrize("return_to", ["/", "/devices?page=2#top", "/a//b", "/%2f%2fevil.test", "/@evil.test", "/.//x"])
async def test_s4_a_path_stays_on_this_site(signer: SessionTokenSigner, return_to: str) -> None:
    async with staged(signer) as stage:
        answer = await (await stage.browser()).sign_in(return_to)
        assert answer.headers["Location"] == stage.api.url + return_to


# S5: everybody else


async def test_s5_callback_replay(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        url = await browser.begin()
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
        answer = stage.provider.authorize(url)
        assert (await browser.come_back(answer)).status_code == 303
        assert code_of(await browser.come_back(answer)) == (400, "invalid_callback")  # the cookie is gone
        thief = await stage.browser()
        replay = await thief.come_back(answer, headers={"Cookie": cookies})
        assert code_of(replay) == (400, "callback_replayed")
        # A fresh code for the same state is no better.
        again = await thief.come_back(stage.provider.authorize(url), headers={"Cookie": cookies})
        assert code_of(again) == (400, "callback_replayed")
        assert stage.store.refusals == ["callback_replayed", "callback_replayed"]
        assert not await thief.is_signed_in()


async def test_s5_parallel_callbacks_make_one_session(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        answer = stage.provider.authorize(await browser.begin())
        answers = await asyncio.gather(*(browser.come_back(answer) for _ in range(10)))
        assert sorted(each.status_code for each in answers)[:2] == [303, 400]
        assert len(stage.store.sessions) == 1


async def test_s5_state_of_another_browser(signer: SessionTokenSigner) -> None:
    """Eve begins, and has Ada's browser bring the answer: Ada would be signed in as Eve."""
    async with staged(signer) as stage:
        eve, ada = await stage.browser(), await stage.browser()
        answer = stage.provider.authorize(await eve.begin())
        assert code_of(await ada.come_back(answer)) == (400, "invalid_callback")
        await ada.begin()  # a sign-in of her own makes no difference
        assert code_of(await ada.come_back(answer)) == (400, "invalid_callback")
        assert stage.store.refusals == []  # nobody fills the audit log from afar


async def test_s5_planted_transaction_cookie(signer: SessionTokenSigner) -> None:
    """A sibling sub-domain puts Eve's sign-in into Ada's browser; it cannot plant the browser cookie on TLS."""
    async with staged(signer) as stage:
        eve, ada = await stage.browser(), await stage.browser()
        url = await eve.begin()
        (name,) = eve.transactions()
        planted = f"{name}={eve.cookie(name)}"
        answer = stage.provider.authorize(url)
        assert code_of(await ada.come_back(answer, headers={"Cookie": planted})) == (400, "invalid_callback")
        await ada.begin()
        own = f"homeport_browser={ada.cookie('homeport_browser')}"
        both = f"{own}; {planted}"
        assert code_of(await ada.come_back(answer, headers={"Cookie": both})) == (400, "invalid_callback")
        # Nor does a second browser cookie, whichever comes first.
        hers = f"homeport_browser={eve.cookie('homeport_browser')}"
        for cookies in (f"{own}; {hers}; {planted}", f"{hers}; {own}; {planted}"):
            assert code_of(await ada.come_back(answer, headers={"Cookie": cookies})) == (400, "invalid_callback")


async def test_s5_planted_session_cookie(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        ada, eve = await stage.browser(), await stage.browser()
        await ada.sign_in()
        stage.provider.person = {"sub": "person-2", "name": "Eve"}
        stage.provider.userinfo = {"sub": "person-2"}
        await eve.sign_in()
        planted, own = eve.cookie("homeport_session"), ada.cookie("homeport_session")
        other = await stage.browser()
        for cookies in (
            f"homeport_session={own}; homeport_session={planted}",
            f"homeport_session={planted}; homeport_session={own}",
            f"homeport_session={own}; homeport_session=x",
        ):
            assert (await other.get("/api/auth/me", headers={"Cookie": cookies})).status_code == 401
        # Planted before she signs in, it is ended, and not hers.
        url = await ada.begin()
        cookies = [f"{each.name}={each.value}" for each in ada.http.cookies.jar if "session" not in each.name]
        header = "; ".join([*cookies, f"homeport_session={planted}"])
        answer = await ada.come_back(stage.provider.authorize(url), headers={"Cookie": header})
        assert answer.status_code == 303
        assert not await eve.is_signed_in()


async def test_s5_a_forged_session_cookie(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        cookie = browser.cookie("homeport_session")
        assert cookie is not None
        secret, _, signature = cookie.partition(".")
        other = await stage.browser()
        stage.store.asked = 0
        for value in (
            "",
            secret,
            f"{secret}.",
            f"{secret}.{'A' * len(signature)}",
            f"{'A' * 43}.{signature}",
            cookie[:-1],
            cookie + "A",
            "x" * 4_000,
            f"{secret}.{signature}.{signature}",
        ):
            answer = await other.get("/api/auth/me", headers={"Cookie": f"homeport_session={value}"})
            assert code_of(answer) == (401, "unauthenticated"), value
        assert stage.store.asked == 0  # none of them costs a look into the database


async def test_s5_cookies_of_another_installation(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage, staged(signer) as elsewhere:
        browser, other = await stage.browser(), await elsewhere.browser()
        await browser.sign_in()
        cookie = browser.cookie("homeport_session")
        answer = await other.get("/api/auth/me", headers={"Cookie": f"homeport_session={cookie}"})
        assert answer.status_code == 401


async def test_s2_keys_rotate_and_nobody_is_signed_out(signer: SessionTokenSigner) -> None:
    old, new = new_cookie_key(), new_cookie_key()
    both = CookieKeys(type(old)(f"{new.reveal()}\n{old.reveal()}\n"))
    async with staged(signer, keys=CookieKeys(old)) as before, staged(signer, keys=both) as after:
        browser = await before.browser()
        url = await browser.begin()
        state = parameters(url)["state"]
        header = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
        assert after.cookies.read_under_way(header, state, NOW) is not None
        await browser.sign_in()
        session = f"homeport_session={browser.cookie('homeport_session')}"
        assert after.cookies.read_session(session) is not None
        fresh = after.cookies.set_session(after.cookies.read_session(session) or old, 60)
        assert before.cookies.read_session(fresh.partition(";")[0]) is None  # the new key signs


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"nonce": "of-another-sign-in"}, "nonce"),
        ({"aud": "another-client"}, "aud"),
        ({"iss": "https://other.test"}, "iss"),
        ({"azp": "another-client"}, "azp"),
        ({"exp": NOW - 100}, "exp"),
    ],
)
async def test_s5_an_id_token_that_does_not_hold(
    signer: SessionTokenSigner, claims: dict[str, object], word: str
) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        stage.provider.claims = claims
        answer = await browser.sign_in()
        assert code_of(answer) == (400, "invalid_id_token")
        assert word in answer.json()["detail"]
        assert stage.store.sessions == {}
        assert stage.store.refusals == ["invalid_id_token"]


async def test_s5_alg_none_and_hs_for_rs(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        for header in ({"alg": "none"}, {"alg": "HS256"}):
            good = stage.provider.made_id_token("n").split(".")
            stage.provider.id_token = f"{encode(header)}.{good[1]}."
            assert code_of(await browser.sign_in()) == (400, "invalid_id_token")
        stage.provider.id_token = compact({"sub": "x"}, ec_key("attacker"), "ES256", kid="ec")
        assert code_of(await browser.sign_in()) == (400, "invalid_id_token")


async def test_s5_a_disabled_user(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        assert await browser.is_signed_in()
        stage.store.disabled.add((await browser.me())["id"])
        stage.clock.advance(1.0)
        assert not await browser.is_signed_in()
        assert code_of(await browser.sign_in()) == (403, "user_disabled")
        assert stage.store.refusals == ["user_disabled"]


async def test_s5_an_access_token_of_the_provider_opens_nothing(signer: SessionTokenSigner) -> None:
    """That of the service client neither: programs show API tokens."""
    async with staged(signer) as stage:
        for token in (stage.provider.made_id_token("n"), "access", stage.provider.logout_token()):
            answer = await stage.api.http.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
            assert code_of(answer) == (401, "unauthenticated")


async def test_what_somebody_may_do_follows_their_role_within_a_second(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        assert (await browser.get("/api/sessions?team=home")).status_code == 200
        assert code_of(await browser.get("/api/sessions?team=away")) == (404, "no_such_team")
        stage.teams.roles = {}
        stage.clock.advance(1.0)
        assert code_of(await browser.get("/api/sessions?team=home")) == (404, "no_such_team")
        assert (await browser.me())["teams"] == []
        stage.teams.roles = {TeamId("away"): Role.VIEWER}
        stage.clock.advance(1.0)
        assert (await browser.get("/api/sessions?team=away")).status_code == 200


# The provider, or the database, is away


async def test_the_provider_is_down_and_running_sessions_go_on(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser, late = await stage.browser(), await stage.browser()
        await browser.sign_in()
        stage.provider.away = {"/.well-known/openid-configuration", "/jwks", "/token"}
        stage.clock.advance(3500)
        assert await browser.is_signed_in()
        stage.provider.discovery = {}
        url = await late.begin()  # the description is kept for a while
        answer = await late.come_back(stage.provider.authorize(url))
        assert (*code_of(answer), answer.headers["Retry-After"]) == (503, "sign_in_unavailable", "7")
        assert await browser.is_signed_in()


async def test_the_provider_was_never_there(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        stage.provider.away = {"/.well-known/openid-configuration"}
        answer = await (await stage.browser()).get("/api/auth/login")
        assert (*code_of(answer), answer.headers["Retry-After"]) == (503, "sign_in_unavailable", "7")
        answer = await stage.log_out("a.b.c")
        assert code_of(answer) == (503, "sign_in_unavailable")


async def test_no_provider_is_set(signer: SessionTokenSigner) -> None:
    async with staged(signer, configured=False) as stage:
        browser = await stage.browser()
        for answer in (
            await browser.get("/api/auth/login"),
            await browser.get("/api/auth/callback?state=a&code=b"),
            await stage.log_out("a.b.c"),
        ):
            assert code_of(answer) == (503, "sign_in_not_configured")
        assert (await stage.api.get("/api/auth/me")).status_code == 200


async def test_the_database_is_away(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        await browser.sign_in()
        stage.store.away = True
        stage.clock.advance(1.0)
        assert code_of(await browser.get("/api/auth/me")) == (503, "database_unavailable")
        assert code_of(await browser.sign_in()) == (503, "database_unavailable")
        assert (await stage.api.get("/api/auth/me")).status_code == 200  # the administration token needs none
        stage.store.away = False
        assert await browser.is_signed_in()


async def test_the_person_says_no_at_the_provider(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        answer = stage.provider.authorize(await browser.begin())
        del answer["code"]
        refused = await browser.come_back(answer | {"error": "access_denied", "error_description": "<b>no</b>"})
        assert code_of(refused) == (403, "sign_in_refused")
        assert "<b>" not in refused.text


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?code=a",
        "?state=a",
        "?code=a&state=b",
        "?code=a&code=b&state=c",
        "?state=" + "x" * 600,
        "?state=%ff&code=a",
    ],
)
async def test_s5_callbacks_of_nothing(signer: SessionTokenSigner, query: str) -> None:
    async with staged(signer) as stage:
        answer = await (await stage.browser()).get("/api/auth/callback" + query)
        assert answer.status_code in (400, 422)
        assert stage.provider.asked == []


async def test_another_name_of_this_machine_is_sent_to_the_one_of_the_callback(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        host = f"localhost:{stage.api.port}"
        answer = await browser.get("/api/auth/login?return_to=/x", headers={"Host": host})
        assert answer.headers["Location"] == f"{stage.api.url}/api/auth/login?return_to=/x"
        assert "set-cookie" not in answer.headers


async def test_what_is_logged_holds_no_secret(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        browser = await stage.browser()
        url = await browser.begin()
        answer = stage.provider.authorize(url)
        await browser.come_back(answer)
        await browser.come_back(answer)
        said = stage.api.logs.getvalue()
        for secret in (answer["code"] + "&", answer["state"], str(browser.cookie("homeport_session"))):
            assert secret not in said


async def test_s5_cookies_by_the_thousand(signer: SessionTokenSigner) -> None:
    async with staged(signer) as stage:
        many = "; ".join(f"homeport_signin_{number:016x}=x" for number in range(150))
        answer = await (await stage.browser()).get("/api/auth/callback?state=a&code=b", headers={"Cookie": many})
        assert code_of(answer) == (400, "invalid_callback")
