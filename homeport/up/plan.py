"""Which processes `homeport up` runs, and with which arguments.

What the user set for a process (environment, TOML file) holds for it here, too: the processes inherit the environment
and read the same file. Arguments say only what the supervisor knows better: the files in the data directory, ports that
were chosen, and how the processes find one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from api_server.settings import ApiSettings
from common.settings import explain, load
from homeport.dev_idp.errors import DevProviderRefusedError
from homeport.dev_idp.place import check_place
from homeport.settings import ALL_SETTINGS, UpSettings
from homeport.up.child import Ready
from homeport.up.data_directory import DataDirectory
from homeport.up.ports import Listener
from remote_proxy.settings import RelaySettings

__all__ = ["DEMO_DEVICE", "DEMO_SERVICE", "Plan", "listeners"]

DEMO_DEVICE = "demo"
DEMO_SERVICE = "demo"


class Plan:
    """What runs.

    Args:
        settings: of `homeport up`.
        directory: where keys and tokens are.
        config: the TOML file, if one was named.
        environ: the environment.

    Raises:
        SettingsError: the settings of the relay or the API are wrong.
    """

    def __init__(
        self, settings: UpSettings, directory: DataDirectory, config: Path | None, environ: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._config = config
        self._relay_flags: dict[str, Any] = {
            "internal_key_file": directory.internal_key,
            "session_keys_file": directory.public_keys,
            # The API server starts right behind it and tells; without this, a relay that had to be started again would
            # admit a revoked device until then.
            "await_revocations": True,
            "tunnel_port": settings.tunnel_port,
            "internal_port": settings.internal_port,
            "ready_file": directory.ready_file("relay"),
        } | self._common_flags()
        self._api_flags: dict[str, Any] = {
            "internal_key_file": directory.internal_key,
            "session_signing_key_file": directory.signing_keys,
            "admin_token_file": directory.admin_token,
            "cookie_keys_file": directory.cookie_keys,
            "api_token_keys_file": directory.api_token_keys,
            "keyring_file": directory.keyring,
            "data_dir": directory.path,
            "api_port": settings.api_port,
            "gateway_port": settings.gateway_port,
            "ready_file": directory.ready_file("api"),
        } | self._common_flags()
        where: dict[str, Any] = {"config": config, "environ": environ, "known": ALL_SETTINGS}
        self.relay = load(RelaySettings, overrides=self._relay_flags, **where)
        self.api = load(ApiSettings, overrides=self._api_flags, **where)
        self.runs_dev_idp = self.api.oidc_issuer is None and self._is_private()
        """Whether people sign in at the provider for development: nobody named another, and the API is private."""
        explained = explain(ApiSettings, overrides=self._api_flags, **where)
        self._names_tunnel_url = any(each.field.name == "tunnel_url" and each.source != "default" for each in explained)

    def _is_private(self) -> bool:
        try:
            check_place(self.api.api_host, self.api.public_url)
        except DevProviderRefusedError:
            return False
        return True

    def _common_flags(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "drain_grace": settings.drain_grace,
            "log_format": settings.log_format,
            "log_level": settings.log_level,
        }

    @property
    def team(self) -> str:
        """The team of the administration token, and of the demo device."""
        return self.api.team

    # The command of each process. `before` is what it told at its last start: the ports that were free then are known
    # to the others by now, and kept.

    def relay_command(self, before: Ready | None) -> list[str]:
        """The relay."""
        flags = dict(self._relay_flags)
        if before is not None:
            flags |= {"tunnel_port": _port(before["tunnel"]), "internal_port": _port(before["internal"])}
        return self._command("relay", flags)

    def dev_idp_command(self, before: Ready | None) -> list[str]:
        """The provider for development. Its port stays what it was: it is part of what people are known by."""
        port = self._settings.dev_idp_port
        if before is not None:
            port = _port(before["issuer"])
        elif port is None:
            port = self._directory.read_dev_idp_port()
        flags = {
            "port": port or 0,
            "data_dir": self._directory.dev_idp,
            "client_id": self.api.oidc_client_id,
            "ready_file": self._directory.ready_file("dev-idp"),
        }
        return ["dev-idp", *(str(part) for name, value in flags.items() for part in (_flag(name), value))]

    def api_command(self, relay: Ready, issuer: str | None, before: Ready | None) -> list[str]:
        """The API server, for that relay and that provider."""
        flags = self._api_flags | {"relay_url": relay["internal"], "oidc_issuer": issuer}
        if not self._names_tunnel_url:
            flags["tunnel_url"] = relay["tunnel"]
        if before is not None:
            flags |= {"api_port": _port(before["api"]), "gateway_port": _port(before["gateway"])}
        return self._command("api", flags)

    def demo_command(self, before: Ready | None) -> list[str]:
        """The demo service."""
        port = 0 if before is None else _port(before["url"])
        return ["demo", "--port", str(port), "--ready-file", str(self._directory.ready_file("demo"))]

    def agent_command(self, relay: Ready, demo: Ready) -> list[str]:
        """The demo device's agent."""
        flags = {
            "relay": relay["tunnel"],
            "data_dir": self._directory.demo,
            "token_file": self._directory.demo_token,
            "service": f"{DEMO_SERVICE}={demo['url']}",
            "ready_file": self._directory.ready_file("agent"),
        } | self._common_flags()
        return self._command("agent", flags)

    def _command(self, process: str, flags: Mapping[str, Any]) -> list[str]:
        command = [process] if self._config is None else [process, "--config", str(self._config)]
        for name, value in flags.items():
            if value is not None:
                command += [_flag(name), str(value)]
        return command


def listeners(relay: RelaySettings, api: ApiSettings) -> list[Listener]:
    """The ports that will be listened on."""
    return [
        Listener("the API", api.api_host, api.api_port, "--api-port"),
        Listener("the gateway", api.gateway_host, api.gateway_port, "--gateway-port"),
        Listener("the tunnels of devices", relay.tunnel_host, relay.tunnel_port, "--tunnel-port"),
        Listener("what relay and API tell each other", relay.internal_host, relay.internal_port, "--internal-port"),
    ]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, "processes tell their URLs with the port"
    return port
