"""What is compared: a side is a set of processes through which a load reaches the same nginx."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.faults.chaos import chaos_process
from tests.golang import build
from tests.stack.certificates import Certificate
from tests.stack.homeport import Keys, agent, api, relay
from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = [
    "BARE",
    "FIXED",
    "FOUR",
    "HANDLER",
    "HOMEPORT",
    "OPEN",
    "REFERENCE",
    "SIDES",
    "SSH",
    "Installation",
    "RelaySide",
    "Side",
    "installation",
    "relay_alone",
    "side",
]

HOMEPORT = "homeport"
REFERENCE = "reference"
"""The Go reference. Its front is net/http with httputil.ReverseProxy, which does what ours does: hop-by-hop headers,
1xx answers, trailers, upgrades, any framing. The goals were set against it."""
BARE = "reference-bare"
"""The same with a front of its own on bare connections, which leaves all of that out: how fast Go can be here."""
FIXED = "homeport-fixed"
"""Homeport, with a relay that has no memory for windows beyond the 256 KiB that yamux begins with."""
SSH = "ssh"
"""A peer: OpenSSH's `ssh -R` and `sshd`, as Debian has them. Raw TCP: it reads no HTTP and asks for no token."""
OPEN = "homeport-open"
"""A gateway of ours that checks nothing and has one place to go: the bare forward."""
FOUR = "homeport-4"
"""Four API processes of ours on one port, with a PostgreSQL."""
HANDLER = "aiohttp"
"""A bare aiohttp handler that answers the same bytes to whoever asks."""
SIDES = (HOMEPORT, REFERENCE, BARE, FIXED, OPEN, FOUR, HANDLER, SSH)

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


@dataclass(frozen=True, slots=True)
class Installation:
    """Homeport with an agent, to which more tunnels can be opened."""

    side: Side
    api: str
    """Base URL of the REST API."""
    tunnel: str
    """URL that devices dial."""
    internal: str
    """Base URL of the relay's internal HTTP."""
    keys: Keys


@contextmanager
def side(name: str, folder: Path, service: str, certificate: Certificate | None, line: str = "") -> Iterator[Side]:
    """Start a side.

    Args:
        name: one of the constants.
        folder: for its files.
        service: HOST:PORT of nginx.
        certificate: of the tunnel port; with it, the tunnel is under TLS.
        line: what the network between agent and relay does, as a script of `tests.faults.script`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starter = {HOMEPORT: _homeport, FIXED: _homeport, SSH: _ssh}.get(name, _reference)
    with starter(name, folder, service, certificate, line) as running:
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
def installation(
    folder: Path,
    service: str,
    *,
    name: str = HOMEPORT,
    certificate: Certificate | None = None,
    line: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Installation]:
    """Start Homeport; `environment` are more settings of its relay."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = Keys.make(folder)
    with ExitStack() as stack:
        relaying = stack.enter_context(relay(folder, keys, certificate=certificate, environment=environment))
        serving = stack.enter_context(api(folder, keys, relaying))
        tunnel = _through(stack, folder, relaying.tunnel, line)
        dialling = stack.enter_context(
            agent(
                folder,
                keys,
                replace(relaying, tunnel=tunnel),
                device=_DEVICE,
                services={"web": f"http://{service}"},
                certificate=certificate,
            )
        )
        running = Side(
            name,
            f"{serving.gateway}/d/{keys.team}/{_DEVICE}/web",
            keys.admin_token_file,
            {"gateway": serving.process, "relay": relaying.process, "agent": dialling.process},
        )
        yield Installation(running, serving.api, relaying.tunnel, relaying.internal, keys)


def _through(stack: ExitStack, folder: Path, tunnel: str, line: str) -> str:
    """The URL to dial a tunnel port by, over a network that behaves like `line`."""
    if not line:
        return tunnel
    url = urlsplit(tunnel)
    return url._replace(netloc=stack.enter_context(chaos_process(folder, url.netloc, line))).geturl()


@contextmanager
def _homeport(name: str, folder: Path, service: str, certificate: Certificate | None, line: str) -> Iterator[Side]:
    fixed = {"HOMEPORT_SESSION_MEMORY_BUDGET": "1"} if name == FIXED else {}
    with installation(folder, service, name=name, certificate=certificate, line=line, environment=fixed) as homeport:
        yield homeport.side


@contextmanager
def _ssh(name: str, folder: Path, service: str, certificate: Certificate | None, line: str) -> Iterator[Side]:
    if certificate is not None or line:
        raise ValueError("this peer brings its own encryption, and is not measured over a long line")
    for key in ("host-key", "key"):
        command = [tool("ssh-keygen", target="bench"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
    (folder / "config").write_text(
        f"HostKey {folder}/host-key\nAuthorizedKeysFile {folder}/key.pub\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\n"
    )
    with ExitStack() as stack:
        os.makedirs("/run/sshd", exist_ok=True)  # where it goes to be nobody; it does not start without
        port, public = _free_ports(2)
        server: list[str | Path] = [tool("sshd", target="bench"), "-D", "-e", "-f", folder / "config"]
        server += ["-p", str(port), "-o", "ListenAddress=127.0.0.1"]
        serving = stack.enter_context(Process("sshd", server, folder=folder))
        serving.wait_until(lambda: _listens(port), "listening")
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options += ["ExitOnForwardFailure=yes"]
        client: list[str | Path] = [
            tool("ssh", target="bench"),
            "-N",
            "-F",
            "none",
            "-i",
            folder / "key",
            "-p",
            str(port),
        ]
        client += [part for option in options for part in ("-o", option)]
        client += ["-R", f"127.0.0.1:{public}:{service}", f"{getpass.getuser()}@127.0.0.1"]
        dialling = stack.enter_context(Process("ssh", client, folder=folder))
        dialling.wait_until(lambda: _listens(public), "forwarding")
        yield Side(name, f"http://127.0.0.1:{public}", _write_token(folder), {"relay": serving, "agent": dialling})


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(number: int) -> list[int]:
    """Ports that nobody listens on at the moment, for programs that cannot choose their own."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def _reference(name: str, folder: Path, service: str, certificate: Certificate | None, line: str) -> Iterator[Side]:
    token_file = _write_token(folder)
    with ExitStack() as stack:
        command = _relay_command(name, token_file, certificate)
        relaying = stack.enter_context(Process("relay", command, folder=folder, json_output=True))
        urls = relaying.read_json()
        trust = [] if certificate is None else ["-ca", str(certificate.certificate)]
        tunnel = _through(stack, folder, urls["tunnel"], line)
        dial = ["-relay", tunnel, "-token-file", str(token_file), "-service", service, *trust]
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
