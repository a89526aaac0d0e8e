"""Homeport's own processes, each started by the command that people type, on ports of the system's choice."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from api_server.tokens.keys import ensure_token_keys
from common.crypto.api_tokens import new_api_token
from common.crypto.key_sets import generate_key_pair
from common.crypto.keyfiles import ensure_secret, read_secret
from common.crypto.keyring import ensure_keyring
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import DeviceId, ServiceName, TeamId
from common.secret import Secret
from tests.databases.servers import make_database_file
from tests.stack.certificates import Certificate
from tests.stack.process import Process
from tests.stack.tools import tool

__all__ = ["Agent", "Api", "Keys", "Relay", "agent", "api", "command", "relay"]

_DAY = 24 * 3600.0


def command() -> str:
    """The `homeport` command of the environment that runs the tests."""
    return tool("homeport", target="install", places=(Path(sys.executable).parent,))


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one installation, in files, and its database."""

    folder: Path
    team: str = "home"

    @classmethod
    def make(cls, folder: Path) -> Keys:
        """New keys in `folder`."""
        keys = cls(folder)
        ensure_secret(keys.internal_key_file)
        ensure_secret(keys.admin_token_file, new_api_token)
        generate_key_pair(keys.signing_keys_file, keys.session_keys_file)
        generate_key_pair(folder / "audit-signing-keys.json", folder / "audit-keys.json")
        ensure_token_keys(folder / "api-token-keys")
        ensure_keyring(folder / "keyring.json")
        make_database_file(keys.database_file)
        return keys

    @property
    def internal_key_file(self) -> Path:
        """What relay and API server share."""
        return self.folder / "internal-key"

    @property
    def signing_keys_file(self) -> Path:
        """Private keys that sign session tokens."""
        return self.folder / "session-signing-keys.json"

    @property
    def session_keys_file(self) -> Path:
        """The public part of them, for the relay."""
        return self.folder / "session-keys.json"

    @property
    def admin_token_file(self) -> Path:
        """An API token with every right."""
        return self.folder / "admin-token"

    @property
    def admin_token(self) -> str:
        """The API token itself."""
        return read_secret(self.admin_token_file).reveal()

    @property
    def database_file(self) -> Path:
        """What the API servers of the installation share."""
        return self.folder / "homeport.db"

    def register(self, device: str) -> None:
        """Have the installation know a device of that name, as `homeport devices register` does; again is no error."""
        row = (f"dev-{hashlib.md5(device.encode()).hexdigest()}", self.team, device, time.time() * 1e6)
        with closing(sqlite3.connect(self.database_file, timeout=30)) as database, database:
            database.execute(
                "INSERT OR IGNORE INTO devices (id, team_id, name, created_at, created_by_kind, created_by, services) "
                "VALUES (?, ?, ?, ?, 'token', 'test', '[]')",
                row,
            )

    def session_token(self, device: str, *, service: str | None = None) -> Secret:
        """A session token of the device with that name, valid for a day."""
        now = time.time()
        claims = SessionClaims(
            device=DeviceId(device),
            device_name=device,
            team=TeamId(self.team),
            credential=CredentialId(f"crd-{device}"),
            issued_at=now,
            expires_at=now + _DAY,
            service=None if service is None else ServiceName(service),
        )
        return SessionTokenSigner.from_file(self.signing_keys_file).sign(claims)


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay."""

    process: Process
    tunnel: str
    """URL that devices dial."""
    internal: str
    """Base URL of its internal HTTP."""


@contextmanager
def relay(
    folder: Path,
    keys: Keys,
    *,
    certificate: Certificate | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Relay]:
    """`homeport relay`.

    Args:
        folder: for its log and ready file.
        keys: of the installation.
        certificate: of the tunnel port; with it, tunnels are under TLS.
        environment: more settings.
    """
    ready = folder / "relay-ready.json"
    settings = {
        "HOMEPORT_TUNNEL_PORT": "0",
        "HOMEPORT_INTERNAL_PORT": "0",
        "HOMEPORT_INTERNAL_KEY_FILE": str(keys.internal_key_file),
        "HOMEPORT_SESSION_KEYS_FILE": str(keys.session_keys_file),
        "HOMEPORT_READY_FILE": str(ready),
    }
    if certificate is not None:
        settings["HOMEPORT_TUNNEL_TLS_CERT_FILE"] = str(certificate.certificate)
        settings["HOMEPORT_TUNNEL_TLS_KEY_FILE"] = str(certificate.key)
    with _process("relay", [], folder, ready, {**settings, **(environment or {})}) as process:
        urls = process.wait_for_file(ready)
        yield Relay(process, urls["tunnel"], urls["internal"])


@dataclass(frozen=True, slots=True)
class Api:
    """A running API server."""

    process: Process
    api: str
    """Base URL of the REST API."""
    gateway: str
    """Base URL of the gateway."""


@contextmanager
def api(folder: Path, keys: Keys, to: Relay, *, environment: Mapping[str, str] | None = None) -> Iterator[Api]:
    """`homeport api`, asking the relay `to`."""
    ready = folder / "api-ready.json"
    settings = {
        "HOMEPORT_API_PORT": "0",
        "HOMEPORT_GATEWAY_PORT": "0",
        "HOMEPORT_RELAY_URL": to.internal,
        "HOMEPORT_TUNNEL_URL": to.tunnel,
        "HOMEPORT_TEAM": keys.team,
        "HOMEPORT_INTERNAL_KEY_FILE": str(keys.internal_key_file),
        "HOMEPORT_SESSION_SIGNING_KEY_FILE": str(keys.signing_keys_file),
        "HOMEPORT_ADMIN_TOKEN_FILE": str(keys.admin_token_file),
        "HOMEPORT_DATA_DIR": str(keys.folder),
        "HOMEPORT_READY_FILE": str(ready),
    }
    with _process("api", [], folder, ready, {**settings, **(environment or {})}) as process:
        urls = process.wait_for_file(ready)
        yield Api(process, urls["api"], urls["gateway"])


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent."""

    process: Process
    device: str


@contextmanager
def agent(
    folder: Path,
    keys: Keys,
    to: Relay,
    *,
    device: str,
    services: Mapping[str, str],
    certificate: Certificate | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Agent]:
    """`homeport agent` of a device, connected to the relay `to`.

    Args:
        services: URL of each service, by its name.
        certificate: of the relay, to trust.
    """
    keys.register(device)
    name = f"agent-{device}"
    ready = folder / f"{name}-ready.json"
    token_file = folder / f"{name}-token"
    token_file.touch(mode=0o600)
    token_file.write_text(keys.session_token(device).reveal())
    arguments = ["--relay", to.tunnel, "--token-file", str(token_file)]
    for service, url in services.items():
        arguments += ["--service", f"{service}={url}"]
    settings = {"HOMEPORT_READY_FILE": str(ready), "HOMEPORT_DATA_DIR": str(folder / f"{name}-data")}
    if certificate is not None:
        settings["HOMEPORT_CA_FILE"] = str(certificate.certificate)
    with _process("agent", arguments, folder, ready, {**settings, **(environment or {})}, log=name) as process:
        process.wait_until_connected(ready)
        yield Agent(process, device)


@contextmanager
def _process(
    subcommand: str,
    arguments: list[str],
    folder: Path,
    ready: Path,
    environment: Mapping[str, str],
    log: str | None = None,
) -> Iterator[Process]:
    ready.unlink(missing_ok=True)
    with Process(log or subcommand, [command(), subcommand, *arguments], folder=folder, environment=environment) as own:
        yield own
