"""What is compared: a side is a set of processes through which a load reaches the same nginx."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.golang import build
from tests.stack.certificates import Certificate
from tests.stack.homeport import Keys, agent, api, relay
from tests.stack.process import Process

__all__ = ["BARE", "HOMEPORT", "REFERENCE", "SIDES", "RelaySide", "Side", "relay_alone", "side"]

HOMEPORT = "homeport"
REFERENCE = "reference"
"""The Go reference. Its front is net/http with httputil.ReverseProxy, which does what ours does: hop-by-hop headers,
1xx answers, trailers, upgrades, any framing. The goals were set against it."""
BARE = "reference-bare"
"""The same with a front of its own on bare connections, which leaves all of that out: how fast Go can be here."""
SIDES = (HOMEPORT, REFERENCE, BARE)

_TOKEN = "bench-" + "0123456789abcdef" * 2
_DEVICE = "bench"


@dataclass(frozen=True, slots=True)
class Side:
    """A running side."""

    name: str
    url: str
    """Of nginx through it, without a slash at the end."""
    token_file: Path
    processes: Mapping[str, Process]
    """Its own, by their part: gateway, relay, agent. The reference's relay is its gateway too."""


@dataclass(frozen=True, slots=True)
class RelaySide:
    """A relay without an agent, to which tunnels can be opened."""

    name: str
    url: str
    """Of the tunnel port."""
    process: Process
    session_token: Callable[[str], str]
    """The token of a device, by the device's name."""


@contextmanager
def side(name: str, folder: Path, service: str, certificate: Certificate | None) -> Iterator[Side]:
    """Start a side.

    Args:
        name: one of the constants.
        folder: for its files.
        service: HOST:PORT of nginx.
        certificate: of the tunnel port; with it, the tunnel is under TLS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starter = _homeport if name == HOMEPORT else _reference
    with starter(name, folder, service, certificate) as running:
        for process in running.processes.values():
            process.wait_until(lambda: _answers(running), "reached through its gateway")
        yield running


def _answers(running: Side) -> bool:
    """Whether nginx answers through it: the agent may be connected a moment before the relay has noted it."""
    headers = {"Authorization": f"Bearer {running.token_file.read_text().strip()}"}
    return httpx.get(f"{running.url}/empty", headers=headers, trust_env=False).status_code == 204


@contextmanager
def relay_alone(name: str, folder: Path) -> Iterator[RelaySide]:
    """Start the relay of a side, with no limit on handshakes that the load would meet."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == HOMEPORT:
        keys = Keys.make(folder)
        limits = {"HOMEPORT_HANDSHAKES_PER_SECOND": "1000000", "HOMEPORT_MAX_PENDING_HANDSHAKES": "4096"}
        with relay(folder, keys, environment=limits) as running:
            yield RelaySide(name, running.tunnel, running.process, lambda device: keys.session_token(device).reveal())
        return
    token_file = _write_token(folder)
    with Process("relay", _relay_command(name, token_file, None), folder=folder, json_output=True) as process:
        yield RelaySide(name, process.read_json()["tunnel"], process, lambda device: f"{_TOKEN}.{device}")


@contextmanager
def _homeport(name: str, folder: Path, service: str, certificate: Certificate | None) -> Iterator[Side]:
    keys = Keys.make(folder)
    with ExitStack() as stack:
        relaying = stack.enter_context(relay(folder, keys, certificate=certificate))
        serving = stack.enter_context(api(folder, keys, relaying))
        dialling = stack.enter_context(
            agent(
                folder, keys, relaying, device=_DEVICE, services={"web": f"http://{service}"}, certificate=certificate
            )
        )
        yield Side(
            name,
            f"{serving.gateway}/d/{keys.team}/{_DEVICE}/web",
            keys.admin_token_file,
            {"gateway": serving.process, "relay": relaying.process, "agent": dialling.process},
        )


@contextmanager
def _reference(name: str, folder: Path, service: str, certificate: Certificate | None) -> Iterator[Side]:
    token_file = _write_token(folder)
    with ExitStack() as stack:
        command = _relay_command(name, token_file, certificate)
        relaying = stack.enter_context(Process("relay", command, folder=folder, json_output=True))
        urls = relaying.read_json()
        trust = [] if certificate is None else ["-ca", str(certificate.certificate)]
        dial = ["-relay", urls["tunnel"], "-token-file", str(token_file), "-service", service, *trust]
        dialling = stack.enter_context(
            Process("agent", [build("reference-agent"), *dial], folder=folder, json_output=True)
        )
        dialling.read_json()
        yield Side(name, f"{urls['gateway']}/d/home/{_DEVICE}/web", token_file, {"relay": relaying, "agent": dialling})


def _relay_command(name: str, token_file: Path, certificate: Certificate | None) -> list[str]:
    front = "bare" if name == BARE else "proxy"
    tls = [] if certificate is None else ["-cert", str(certificate.certificate), "-key", str(certificate.key)]
    return [str(build("reference-relay")), "-token-file", str(token_file), "-front", front, *tls]


def _write_token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(_TOKEN)
    return path
