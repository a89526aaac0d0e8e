"""Logs: one shape for our lines and those of libraries, and nothing in them that looks like a credential."""

from __future__ import annotations

import base64
import errno
import io
import itertools
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.api_tokens import new_api_token
from common.logging import Format, Level, configure, get_logger, mask

TOKEN = new_api_token().reveal()
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJjYW0tMSJ9.c2lnbmF0dXJl"
BASIC = base64.b64encode(f"me:{TOKEN}".encode()).decode()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is of the process: put it back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)


def logs(form: Format = "json", level: Level = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(format=form, level=level, stream=stream)
    return stream


def test_a_line_is_one_json_object() -> None:
    stream = logs()
    get_logger("homeport.test").info("something happened", device="cam-1", count=3)
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert list(found)[:4] == ["time", "level", "logger", "event"]
    assert found.pop("time").endswith("Z")
    assert found == {
        "event": "something happened",
        "level": "info",
        "logger": "homeport.test",
        "device": "cam-1",
        "count": 3,
    }


def test_lines_of_libraries_have_the_same_shape() -> None:
    stream = logs()
    logging.getLogger("some.library").warning("%d things", 3)
    found = json.loads(stream.getvalue())
    assert (found["event"], found["level"], found["logger"]) == ("3 things", "warning", "some.library")


def test_a_logger_made_before_configure_follows_it() -> None:
    early = get_logger("early")
    stream = logs()
    early.info("late")
    assert json.loads(stream.getvalue())["event"] == "late"


def test_levels() -> None:
    stream = logs(level="warning")
    get_logger("a").info("no")
    logging.getLogger("b").info("no")
    get_logger("a").warning("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes"]


def test_libraries_that_talk_a_lot_are_heard_from_warnings_up() -> None:
    stream = logs(level="debug")
    logging.getLogger("httpx").info("HTTP Request: GET http://...")
    logging.getLogger("aiosqlite").debug("executing ... 'INSERT ...', ('a value',)")
    logging.getLogger("websockets.server").debug("< TEXT")
    logging.getLogger("httpx").warning("heard")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["heard"]


def test_configuring_twice_does_not_double_the_lines() -> None:
    logs()
    stream = logs()
    logging.getLogger("x").warning("once")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_line_break_does_not_forge_a_line() -> None:
    stream = logs()
    get_logger("a").info("x", path='/\n{"level": "error", "event": "forged"}')
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_credential_leaves_wherever_it_stands(form: Format) -> None:
    stream = logs(form)
    log = get_logger("a")
    message = f"token {TOKEN}"
    log.info(message)
    log.info("x", token=TOKEN, headers={"Authorization": f"Bearer {JWT}", "X": [f"Basic {BASIC}"]})
    log.info("x", **{TOKEN: "as a key"})
    log.info("x", pair=("a", TOKEN.encode()))
    logging.getLogger("library").error("%s", {"Authorization": f"bearer {JWT}"})
    try:
        raise ValueError(f"cannot parse {TOKEN}") from KeyError(JWT)
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    written = stream.getvalue()
    assert "cannot parse" in written
    for secret in (TOKEN[3:], JWT, JWT.split(".")[1], BASIC):
        assert secret not in written


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"a {TOKEN} b", "a hp_*** b"),
        (f"hpp_{TOKEN[3:]}", "hpp_***"),
        (TOKEN[:20], "hp_***"),
        (f'"{JWT}"', '"***"'),
        (JWT.rpartition(".")[0] + ".", "***"),
        (f"Authorization: Bearer {JWT}", "Authorization: Bearer ***"),
        ("Authorization: bearer opaque-token-123", "Authorization: bearer ***"),
        (f"Basic {BASIC}", "Basic ***"),
        ("redis://user:p4ss@host/0", "redis://user:***@host/0"),
        ("postgresql+psycopg://u:p4ss@host/db?x=1", "postgresql+psycopg://u:***@host/db?x=1"),
    ],
    ids=map(str, itertools.count()),  # what is masked has no place in a name
)
def test_what_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET /api/sessions/ses_0123456789abcdef0123456789abcdef",
        "bearer authentication is needed",
        "Basic understanding of the problem",
        "http://127.0.0.1:3721/a@b",
        "hp_start",
        "eyJ is how a JWT begins",
        "the crd_0123456789abcdef0123456789abcdef was revoked",
        "wss://relay.example.org:443/tunnel",
    ],
)
def test_what_is_not(text: str) -> None:
    assert mask(text) == text


@given(before=st.text(alphabet=" \"'{}[]:,=\n\t/", max_size=5), after=st.text(alphabet=" \"'{}[]:,\n\t/", max_size=5))
def test_a_token_is_masked_between_any_punctuation(before: str, after: str) -> None:
    for token in (TOKEN, JWT):
        assert token not in mask(before + token + after)


def test_masking_a_long_line_takes_no_long_time() -> None:
    """Each of these would be quadratic, or worse, in a pattern that backtracks."""
    for line in ("a://" * 50_000, "eyJ" * 60_000, "bearer " * 30_000, "hp_" * 60_000, "a" * 200_000, "x://y:" * 30_000):
        assert len(mask(line)) <= len(line)


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    """A full disk: whoever logs goes on, and later lines are written when there is room again."""

    class Disk(io.StringIO):
        full = False

        def flush(self) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

    disk = Disk()
    configure(format="json", level="info", stream=disk)
    logger = get_logger("relay")
    logger.info("before")
    disk.full = True
    logger.info("meanwhile")
    logging.getLogger("a.library").warning("meanwhile")
    disk.full = False
    logger.info("after")
    assert '"event": "after"' in disk.getvalue()
