"""What may be wrong with an installation, each thing looked at once, with what to do about it.

Each check is a function from the facts to a `Finding`. None changes anything, and none raises: that something cannot be
found out is a finding, too.
"""

from __future__ import annotations

import os
import platform
import resource
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from common.crypto.errors import CredentialError
from common.crypto.keyfiles import read_secret
from common.errors import HomeportError
from common.secret import Secret
from homeport.api_client import ApiClient
from homeport.run_file import ADMIN_TOKEN, Run
from homeport.up.errors import PortInUseError
from homeport.up.ports import Listener, check_free

__all__ = ["Finding", "Verdict", "examine_api", "examine_machine", "examine_ports", "examine_run"]

_SECRETS = (
    ADMIN_TOKEN,
    "internal-key",
    "session-signing-keys.json",
    "audit-signing-keys.json",
    "api-token-keys",
    "keyring.json",
    "demo/session-token",
)

_WANTED_FILES = 4096
"""Open files; a relay needs one for each tunnel and each stream that the API forwards."""

_LARGEST_SKEW = 20.0
"""Seconds; a session token that seems to come from more than 30 s ahead is refused."""

_TIMEOUT = 5.0


class Verdict(StrEnum):
    """How a check ended."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one check."""

    check: str
    verdict: Verdict
    detail: str
    advice: str | None = None
    """What to do; None when all is well."""


def _good(check: str, detail: str) -> Finding:
    return Finding(check=check, verdict=Verdict.GOOD, detail=detail)


def _bad(check: str, detail: str, advice: str) -> Finding:
    return Finding(check=check, verdict=Verdict.BAD, detail=detail, advice=advice)


def _warning(check: str, detail: str, advice: str) -> Finding:
    return Finding(check=check, verdict=Verdict.WARNING, detail=detail, advice=advice)


def examine_machine(data_dir: Path) -> Iterator[Finding]:
    """This machine, and the files in a data directory."""
    yield _good("homeport", f"{installed_version('homeport')}, Python {platform.python_version()}, {sys.executable}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the soft limit is raised to it by each process
    if hard == resource.RLIM_INFINITY or hard >= _WANTED_FILES:
        yield _good("open files", "no limit" if hard == resource.RLIM_INFINITY else f"{hard} allowed")
    else:
        yield _warning("open files", f"only {hard} allowed", "raise the hard limit of this user (limits.conf, systemd)")
    if not data_dir.exists():
        yield _good("data directory", f"{data_dir} does not exist yet; `homeport up` makes it")
        return
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if mode & 0o077:
        yield _warning("data directory", f"{data_dir} has mode {mode:04o}: others may look in", f"chmod 700 {data_dir}")
    else:
        yield _good("data directory", str(data_dir))
    for name in _SECRETS:
        if (data_dir / name).exists():
            try:
                read_secret(data_dir / name)
            except CredentialError as exc:
                yield _bad(f"file {name}", exc.detail, "as said; or delete the file, and a new one is made")
            else:
                yield _good(f"file {name}", "readable by its owner alone")


def examine_ports(listeners: Iterable[Listener]) -> Iterator[Finding]:
    """Whether `homeport up` could start here."""
    for listener in listeners:
        try:
            check_free([listener])
        except PortInUseError as exc:
            yield _bad(f"port for {listener.what}", exc.detail, f"stop what listens there, or use {listener.flag}")
        else:
            yield _good(f"port for {listener.what}", f"{listener.port} is free" if listener.port else "any free one")


def examine_run(run: Run, token: Secret) -> Iterator[Finding]:
    """A running `homeport up`, each of its doors."""
    if _is_alive(run.pid):
        yield _good("supervisor", f"process {run.pid}")
    else:
        yield _bad("supervisor", f"process {run.pid} is gone", "start `homeport up` again")
    yield from examine_api(run.api, token, run.team)
    tunnel = urlsplit(run.tunnel)
    scheme = "https" if tunnel.scheme == "wss" else "http"
    yield _http("relay, tunnels", f"{scheme}://{tunnel.netloc}/healthz", lambda answer: answer.status_code == 200)
    yield _http("relay, internal", f"{run.internal}/healthz", lambda answer: answer.status_code == 200)
    # Without a token: that it refuses shows that it is the gateway, and that it guards.
    yield _http("gateway", f"{run.gateway}/d/{run.team}/x/x/", lambda answer: answer.status_code == 401)
    if run.demo_device is not None:
        url = f"{run.gateway}/d/{run.team}/{run.demo_device}/{run.demo_service}/status/204"
        yield _http("demo device", url, lambda answer: answer.status_code == 204, token)


def examine_api(url: str, token: Secret, team: str) -> Iterator[Finding]:
    """An API: does it answer, is it ready, does it take the token, and do the clocks agree?"""
    alive = _http("API", f"{url}/healthz", lambda answer: answer.status_code == 200)
    yield alive
    if alive.verdict is not Verdict.GOOD:
        return
    yield _http("API, ready", f"{url}/readyz", lambda answer: answer.status_code == 200)
    yield _clock(url)
    try:
        with ApiClient(url, token, team, timeout=_TIMEOUT) as client:
            count = sum(1 for _ in client.sessions())
    except HomeportError as exc:
        yield _bad("token", exc.detail, "give another by --token-file, or name the token's team by --team")
    else:
        yield _good("token", f"accepted; {count} device{'s' * (count != 1)} of team {team} connected")


def _http(check: str, url: str, fits: Callable[[httpx.Response], bool], token: Secret | None = None) -> Finding:
    headers = {} if token is None else {"Authorization": f"Bearer {token.reveal()}"}
    try:
        answer = httpx.get(url, headers=headers, timeout=_TIMEOUT, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return _bad(check, f"{url} does not answer: {str(exc) or type(exc).__name__}", "is that process running?")
    if fits(answer):
        return _good(check, url)
    return _bad(check, f"{url} answers {answer.status_code}", "look at the log of that process")


def _clock(url: str) -> Finding:
    try:
        date = httpx.get(f"{url}/healthz", timeout=_TIMEOUT, trust_env=False).headers["Date"]
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (httpx.HTTPError, KeyError, ValueError):
        return _warning("clock", f"{url} does not tell its time", "see that both machines keep time (NTP)")
    if abs(skew) > _LARGEST_SKEW:
        return _bad("clock", f"{abs(skew):.0f} s apart from that of {url}", "see that both machines keep time (NTP)")
    return _good("clock", f"within {_LARGEST_SKEW:.0f} s of that of the API")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
