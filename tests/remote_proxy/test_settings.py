from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import SettingsError, fields_of, load
from remote_proxy.settings import RelaySettings

LEAST = {"session_keys_file": Path("session-keys.json"), "internal_key_file": Path("internal-key")}


def settings(**changes: object) -> RelaySettings:
    return load(RelaySettings, config=None, environ={}, overrides={**LEAST, **changes})


def test_the_defaults_hold() -> None:
    found = settings()
    assert (found.tunnel_host, found.tunnel_port) == ("127.0.0.1", 3800)
    assert (found.internal_host, found.internal_port) == ("127.0.0.1", 3801)


def test_every_setting_is_described() -> None:
    assert all(field.description.endswith(".") for field in fields_of(RelaySettings))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.5", "relay.example"])
def test_internal_http_does_not_start_without_authentication(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(internal_key_file=None, internal_host=host)
    loopback = host in ("127.0.0.1", "::1", "localhost")
    assert ("beyond loopback" in caught.value.detail) is not loopback
    assert "internal_key_file" in caught.value.detail


def test_mutual_tls_takes_the_place_of_the_key() -> None:
    found = settings(
        internal_key_file=None,
        internal_host="10.0.0.5",
        internal_tls_cert_file=Path("cert.pem"),
        internal_tls_key_file=Path("key.pem"),
        internal_tls_client_ca_file=Path("ca.pem"),
    )
    assert found.internal_host == "10.0.0.5"


@pytest.mark.parametrize(
    "changes",
    [
        {"tunnel_tls_cert_file": Path("cert.pem")},
        {"tunnel_tls_key_file": Path("key.pem")},
        {"internal_tls_cert_file": Path("cert.pem")},
        {"internal_tls_client_ca_file": Path("ca.pem")},
        {"probe_interval": 15.0, "dead_after": 15.0},
        {"probe_interval": 0.0},
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        settings(**changes)


def test_trusted_proxies_are_addresses_and_networks() -> None:
    assert settings(trusted_proxies="10.0.0.0/8,::1").trusted_proxies == ("10.0.0.0/8", "::1")
    with pytest.raises(SettingsError) as caught:
        settings(trusted_proxies="proxy.example")
    assert "trusted_proxies" in caught.value.detail
