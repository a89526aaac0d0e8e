"""What the API server is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_server.settings import ApiSettings
from common.settings import SettingsError, load

REQUIRED = {"internal_key_file": "/k", "session_signing_key_file": "/s", "admin_token_file": "/a", "data_dir": "/d"}

ISSUER = "https://provider.example.org"


def read(**changes: object) -> ApiSettings:
    return load(ApiSettings, config=None, environ={}, overrides={**REQUIRED, **changes})


def test_the_defaults_listen_on_loopback_alone() -> None:
    settings = read()
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 3721)
    assert (settings.gateway_host, settings.gateway_port) == ("127.0.0.1", 3722)
    assert (settings.relay_url, settings.team) == ("http://127.0.0.1:3801", "home")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"team": "Home"}, "team must be"),
        ({"team": "a--b"}, "team must be"),
        ({"relay_url": "ftp://relay"}, "relay_url must be a URL: http or https"),
        ({"relay_url": "http://"}, "relay_url must be a URL"),
        ({"relay_url": "http://user:hunter2@relay"}, "relay_url must be a URL"),
        ({"relay_url": "http://relay:99999"}, "relay_url must be a URL"),
        ({"relay_url": "http://[::1"}, "relay_url must be a URL"),
        ({"tunnel_url": "http://relay/tunnel"}, "tunnel_url must be a URL: ws or wss"),
        ({"public_url": "api.example.org"}, "public_url must be a URL"),
        ({"internal_tls_cert_file": "/c"}, "given together"),
        ({"internal_key_file": None}, "internal_key_file is needed"),
        ({"data_dir": None}, "database_url is needed, or data_dir"),
        ({"data_dir": None, "database_url": "sqlite:////d/homeport.db"}, "audit_key_file is needed, or data_dir"),
        (
            {"data_dir": None, "database_url": "sqlite:////d/homeport.db", "audit_key_file": "/a"},
            "keyring_file is needed, or data_dir",
        ),
        ({"trusted_proxies": ("10.0.0.1/8",)}, "trusted_proxies must be networks"),
        ({"trusted_proxies": ("proxy.example.org",)}, "trusted_proxies must be networks"),
        ({"allow_private_targets": ("10.0.0.1/8",)}, "allow_private_targets must be"),
        ({"allow_private_targets": ("https://backend.test",)}, "allow_private_targets must be"),
        ({"oidc_issuer": "http://provider.example.org"}, "oidc_issuer must be an https URL"),
        ({"oidc_issuer": "https://provider.example.org?x=1"}, "oidc_issuer must be an https URL"),
        ({"oidc_issuer": "provider.example.org"}, "oidc_issuer must be an https URL"),
        ({"oidc_issuer": "https://user:hunter2@provider.example.org"}, "oidc_issuer must be an https URL"),
        # A provider on this machine is for this machine: others would be sent to their own.
        (
            {"oidc_issuer": "http://127.0.0.1:1", "public_url": "https://api.example.org"},
            "oidc_issuer is on this machine",
        ),
        ({"oidc_issuer": ISSUER, "session_idle": "2h", "session_lifetime": "1h"}, "session_idle must be"),
        ({"oidc_issuer": ISSUER, "session_idle": 0}, "session_idle must be"),
        ({"oidc_issuer": ISSUER, "oidc_service_client_id": "service"}, "oidc_service_client_secret is needed"),
        (
            {
                "oidc_issuer": ISSUER,
                "data_dir": None,
                "database_url": "sqlite:////d/homeport.db",
                "audit_key_file": "/a",
                "keyring_file": "/k",
            },
            "cookie_keys_file is needed",
        ),
        ({"session_token_lifetime": "2h", "session_token_max_lifetime": "1h"}, "must not exceed"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read(**changes)
    assert "hunter2" not in str(caught.value)


def test_mutual_tls_stands_for_the_key() -> None:
    settings = read(internal_key_file=None, internal_tls_cert_file="/c", internal_tls_key_file="/k")
    assert settings.internal_key_file is None


def test_the_database_is_a_file_in_the_data_directory_unless_it_is_named() -> None:
    assert read().database().reveal() == "sqlite:////d/homeport.db"
    named = read(database_url="postgresql+psycopg://u:hunter2@db/homeport")
    assert named.database().reveal() == "postgresql+psycopg://u:hunter2@db/homeport"
    assert "hunter2" not in repr(named)


def test_so_are_the_keys_of_the_audit_log() -> None:
    assert str(read().audit_key()) == "/d/audit-signing-keys.json"
    assert str(read(audit_key_file="/k").audit_key()) == "/k"


def test_so_is_the_keyring() -> None:
    assert str(read().keyring()) == "/d/keyring.json"
    assert str(read(keyring_file="/k").keyring()) == "/k"


@pytest.mark.parametrize(
    "changes",
    [
        {"oidc_issuer": ISSUER},
        {"oidc_issuer": ISSUER + "/realms/main", "public_url": "https://api.example.org"},
        {"oidc_issuer": "http://127.0.0.1:3723"},
        {"oidc_issuer": "http://localhost:3723", "public_url": "http://localhost:3721"},
    ],
)
def test_where_people_can_sign_in(changes: dict[str, object]) -> None:
    assert read(**changes).cookie_keys() == Path("/d/cookie-keys")
