"""The settings of the API server: the REST API and the gateway, which are one process."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from api_server.custody.settings import CustodySettings
from api_server.outbound.policy import is_allowance
from api_server.provider_tokens.settings import ProviderSettings, check_providers
from common.ids import is_name
from common.logging import Format, Level
from common.secret import Secret
from common.settings import Bytes, Port, Seconds
from common.urls import is_loopback_url, is_usable

__all__ = ["ApiSettings"]

_COOKIE_KEYS = "cookie-keys"
API_TOKEN_KEYS = "api-token-keys"  # noqa: S105  the name of a file
"""In the data directory."""


class ApiSettings(CustodySettings, frozen=True, kw_only=True):
    """What the API server is told at its start."""

    section: ClassVar[str] = "api"

    api_host: Annotated[str, Meta(description="Address that the REST API listens on.")] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="Port of the REST API; 0 for any free one.")] = 3721
    gateway_host: Annotated[str, Meta(description="Address that the gateway listens on.")] = "127.0.0.1"
    gateway_port: Annotated[Port, Meta(description="Port of the gateway; 0 for any free one.")] = 3722
    reuse_port: Annotated[
        bool,
        Meta(
            description="Listen with SO_REUSEPORT, so that several processes share the ports and the kernel spreads "
            "the connections among them."
        ),
    ] = False

    directory_url: Annotated[
        Secret | None,
        Meta(
            description="Valkey or Redis that all API servers share: redis://host:6379, rediss://, redis+unix:///path. "
            "Request quotas are counted there, for all of them together; without one each counts for itself."
        ),
    ] = None

    relay_url: Annotated[str, Meta(description="Base URL of the relay's internal HTTP.")] = "http://127.0.0.1:3801"
    internal_key_file: Annotated[
        Path | None,
        Meta(description="File (mode 0600) with the key that relay and API server share; needed unless mutual TLS is."),
    ] = None
    internal_tls_ca_file: Annotated[
        Path | None,
        Meta(description="Certificates to check the relay's internal HTTPS against; empty for the system's."),
    ] = None
    internal_tls_cert_file: Annotated[
        Path | None, Meta(description="Client certificate shown to the relay's internal HTTPS (mutual TLS).")
    ] = None
    internal_tls_key_file: Annotated[
        Path | None, Meta(description="Private key (mode 0600) of the client certificate.")
    ] = None

    session_signing_key_file: Annotated[
        Path, Meta(description="File (mode 0600) with the private keys that sign session tokens; the first one signs.")
    ]
    admin_token_file: Annotated[Path, Meta(description="File (mode 0600) with the administration token.")]
    team: Annotated[str, Meta(description="Name of the team that the administration token belongs to.")] = "home"

    tunnel_url: Annotated[str, Meta(description="URL that devices dial, as it is handed out with session tokens.")] = (
        "ws://127.0.0.1:3800/tunnel"
    )
    public_url: Annotated[
        str | None, Meta(description="Origin of the REST API as browsers see it; needed behind a reverse proxy.")
    ] = None
    gateway_url: Annotated[
        str | None, Meta(description="Base URL of the gateway as clients see it; needed behind a reverse proxy.")
    ] = None
    gateway_domain: Annotated[
        str | None,
        Meta(
            description="Domain whose sub-domains {service}--{device}--{team} are services of devices; empty for none."
        ),
    ] = None

    gateway_sign_in: Annotated[
        Literal["everywhere", "own_hosts", "off"],
        Meta(
            description="Where people's browsers are signed in on pages of the gateway: on all of them; on the hosts "
            "of gateway_domain alone, because pages below /d/ share an origin; or nowhere."
        ),
    ] = "everywhere"

    oidc_issuer: Annotated[
        str | None,
        Meta(description="Issuer of the OpenID provider at which people sign in, to the letter; empty for no sign-in."),
    ] = None
    oidc_client_id: Annotated[str, Meta(min_length=1, description="What the provider knows Homeport as.")] = "homeport"
    oidc_client_secret: Annotated[
        Secret | None,
        Meta(description="Secret of that client; without one it is a public client, whose one proof is PKCE."),
    ] = None
    oidc_scopes: Annotated[
        tuple[str, ...], Meta(description="Scopes that are asked for beside openid; name and e-mail come by them.")
    ] = ("openid", "email", "profile")
    oidc_offline_access: Annotated[
        bool,
        Meta(
            description="Ask for an offline token at sign-in (offline_access) and keep it, so that programs get access "
            "tokens of that provider for people who are away; they are asked for their consent at each sign-in."
        ),
    ] = False
    oidc_ca_file: Annotated[
        Path | None, Meta(description="Certificates to check the provider's against; empty for the system's.")
    ] = None
    oidc_service_client_id: Annotated[
        str | None,
        Meta(description="Client as which the API itself gets tokens of the provider; by default oidc_client_id."),
    ] = None
    oidc_service_client_secret: Annotated[
        Secret | None, Meta(description="Secret of that client; by default oidc_client_secret.")
    ] = None
    cookie_keys_file: Annotated[
        Path | None,
        Meta(
            description="File (mode 0600) with the keys of cookies, one a line; the first one signs. Processes that "
            "serve the same people share it. By default cookie-keys in data_dir."
        ),
    ] = None
    api_token_keys_file: Annotated[
        Path | None,
        Meta(
            description="File (mode 0600) with the keys that API tokens are hashed with, one a line; the first one "
            "hashes. Processes of one installation share it. By default api-token-keys in data_dir."
        ),
    ] = None
    api_token_max_lifetime: Annotated[
        Seconds,
        Meta(description="Longest life of an API token, and what one gets that asks for none; 0 for no limit."),
    ] = 0.0
    session_idle: Annotated[
        Seconds, Meta(description="Time without a request after which a person has to sign in again.")
    ] = 8 * 3600.0
    session_lifetime: Annotated[
        Seconds, Meta(description="Time after which a person has to sign in again, whatever happens.")
    ] = 24 * 3600.0

    providers: Annotated[
        dict[str, ProviderSettings],
        Meta(description="Providers whose tokens people may have kept here; NAME is what they are called in paths."),
    ] = msgspec.field(default_factory=dict)

    hand_out_burst: Annotated[
        int, Meta(ge=1, le=100_000, description="Access tokens of one connection that one caller is handed at once.")
    ] = 60
    hand_out_interval: Annotated[Seconds, Meta(description="Time after which that caller is handed one more.")] = 1.0

    session_token_lifetime: Annotated[
        Seconds, Meta(description="Life of a session token when the request names none.")
    ] = 24 * 3600.0
    session_token_max_lifetime: Annotated[
        Seconds, Meta(description="Longest life of a session token that may be asked for.")
    ] = 366 * 24 * 3600.0

    database_pool_size: Annotated[
        int, Meta(ge=1, le=1000, description="Most connections to the database at a time, of each process.")
    ] = 10

    max_request_bytes: Annotated[Bytes, Meta(description="Largest body of a request to the REST API.")] = 1024 * 1024
    max_header_bytes: Annotated[Bytes, Meta(description="Largest head of a request to the gateway.")] = 64 * 1024
    max_body_bytes: Annotated[
        Bytes, Meta(description="Largest body of a request through the gateway; 0 for no limit.")
    ] = 0
    max_gateway_connections: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Clients of the gateway at a time.")
    ] = 20_000
    header_timeout: Annotated[Seconds, Meta(description="Time for a client of the gateway to send a request head.")] = (
        10.0
    )
    keepalive_timeout: Annotated[
        Seconds, Meta(description="Time that the gateway keeps the connection of a client between two requests.")
    ] = 75.0
    open_timeout: Annotated[Seconds, Meta(description="Time for an agent to connect to its service.")] = 10.0
    relay_patience: Annotated[
        Seconds,
        Meta(
            description="Time that a request waits for a relay that is being restarted, or for a device that has to "
            "dial it anew, before it fails; 0 for not at all."
        ),
    ] = 10.0
    service_timeout: Annotated[
        Seconds, Meta(description="Time for a service to begin its response once it has the request.")
    ] = 120.0
    backend_connect_timeout: Annotated[
        Seconds,
        Meta(description="Time for a connection to a backend to stand, its name resolved and its certificate checked."),
    ] = 10.0
    inspector_requests: Annotated[
        int, Meta(ge=1, le=10_000, description="Requests to a route that is inspected that a process keeps.")
    ] = 100
    inspector_body_bytes: Annotated[Bytes, Meta(description="Largest part of a body that is kept with them.")] = (
        16 * 1024
    )
    inspector_bytes: Annotated[
        Bytes, Meta(description="Memory of a process for the inspected requests of all routes together.")
    ] = 32 * 1024 * 1024
    inspector_age: Annotated[Seconds, Meta(description="Time after which an inspected request is dropped.")] = 3600.0
    max_backend_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Connections of the gateway to backends at a time, all together.")
    ] = 4096
    max_connections_per_backend: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Connections of the gateway to one backend at a time, for one team.")
    ] = 512
    broker_concurrency: Annotated[
        int, Meta(ge=1, le=1000, description="Calls of the broker to one provider at a time, for one team.")
    ] = 8
    broker_rate: Annotated[
        float,
        Meta(ge=0.01, le=10_000, description="Calls of the broker to one provider a second, for one team."),
    ] = 20.0
    stream_idle_timeout: Annotated[
        Seconds, Meta(description="Time without a byte either way after which the gateway ends a response or upgrade.")
    ] = 3600.0
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) of reverse proxies whose X-Forwarded-* the gateway believes."),
    ] = ()
    allow_private_targets: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts, addresses and networks (CIDR) that URLs of users may lead to, though they are of this "
            "machine, private or link-local, and by http, too."
        ),
    ] = ()
    outbound_ca_file: Annotated[
        Path | None,
        Meta(description="Certificates that those URLs are checked against, beside the system's; empty for none."),
    ] = None
    max_event_clients: Annotated[
        int, Meta(ge=1, le=100_000, description="Clients that may follow /api/events at once.")
    ] = 1000
    usage_interval: Annotated[
        Seconds, Meta(description="Time between two writes of what was used; what is killed loses that much at most.")
    ] = 5.0
    usage_retention: Annotated[Seconds, Meta(description="Time for which usage by the hour is kept; 0 for ever.")] = (
        90 * 24 * 3600.0
    )
    wrong_token_burst: Annotated[
        int, Meta(ge=1, le=10_000, description="Wrong tokens from one address that are answered 401 before 429.")
    ] = 10
    wrong_token_interval: Annotated[
        Seconds, Meta(description="Time after which one more wrong token from the address is answered 401.")
    ] = 6.0

    drain_grace: Annotated[
        Seconds, Meta(description="How long requests and streams may go on after SIGTERM before they are cut.")
    ] = 30.0
    ready_file: Annotated[
        Path | None, Meta(description="File to write, once listening, with the process id and the real URLs (JSON).")
    ] = None
    log_format: Annotated[Format, Meta(description="Form of the log lines.")] = "json"
    log_level: Annotated[Level, Meta(description="Lowest level that is logged.")] = "info"

    def __post_init__(self) -> None:
        if not is_name(self.team):
            raise ValueError("team must be lower-case letters, digits and single hyphens, at most 40 characters")
        for name, schemes in _URLS.items():
            url = getattr(self, name)
            if url is not None and not _is_url(url, schemes):
                raise ValueError(f"{name} must be a URL: {' or '.join(schemes)}://host[:port]")
        for network in self.trusted_proxies:
            if not _is_network(network):
                raise ValueError("trusted_proxies must be networks such as 10.0.0.0/8 or 2001:db8::/32")
        if not all(map(is_allowance, self.allow_private_targets)):
            raise ValueError("allow_private_targets must be hosts, addresses, or networks such as 10.0.0.0/8")
        if self.internal_key_file is None and self.internal_tls_cert_file is None:
            raise ValueError("internal_key_file is needed, or internal_tls_cert_file where the relay wants mutual TLS")
        if (self.internal_tls_cert_file is None) != (self.internal_tls_key_file is None):
            raise ValueError("internal_tls_cert_file and internal_tls_key_file are given together or not at all")
        if self.directory_url is not None and not is_directory_url(self.directory_url.reveal()):
            raise ValueError(
                "directory_url must be redis://, rediss:// or redis+unix:// (valkey likewise), or postgresql://"
            )
        self._check_sign_in()
        check_providers(self.providers)
        self.database()
        self.audit_key()
        self.keyring()
        self.api_token_keys()
        self.check_mirrors()
        if self.session_token_lifetime > self.session_token_max_lifetime:
            raise ValueError("session_token_lifetime must not exceed session_token_max_lifetime")

    def cookie_keys(self) -> Path | None:
        """The file of the keys of cookies; None where neither it nor its folder is given."""
        if self.cookie_keys_file is None and self.data_dir is not None:
            return self.data_dir / _COOKIE_KEYS
        return self.cookie_keys_file

    def api_token_keys(self) -> Path:
        """The file of the keys that API tokens are hashed with.

        Raises:
            ValueError: neither it nor its folder is given.
        """
        if self.api_token_keys_file is not None:
            return self.api_token_keys_file
        if self.data_dir is None:
            raise ValueError("api_token_keys_file is needed, or data_dir; `homeport keys init` makes one")
        return self.data_dir / API_TOKEN_KEYS

    def _check_sign_in(self) -> None:
        if self.oidc_issuer is None:
            return
        if not is_usable(self.oidc_issuer, loopback=True):
            raise ValueError("oidc_issuer must be an https URL without query; http is for a provider on this machine")
        if is_loopback_url(self.oidc_issuer) and self.public_url is not None and not is_loopback_url(self.public_url):
            raise ValueError("oidc_issuer is on this machine, where browsers that come by public_url cannot sign in")
        if self.cookie_keys() is None:
            raise ValueError("cookie_keys_file is needed for oidc_issuer, or data_dir; `homeport keys init` makes one")
        if not 1 <= self.session_idle <= self.session_lifetime:
            raise ValueError("session_idle must be a second at least, and not exceed session_lifetime")
        if self.oidc_service_client_id is not None and self.oidc_service_client_secret is None:
            raise ValueError("oidc_service_client_secret is needed for oidc_service_client_id")


_URLS: dict[str, tuple[Literal["http", "https", "ws", "wss"], ...]] = {
    "relay_url": ("http", "https"),
    "tunnel_url": ("ws", "wss"),
    "public_url": ("http", "https"),
    "gateway_url": ("http", "https"),
}


def is_directory_url(url: str) -> bool:
    """Whether a URL names an engine that processes can share."""
    return urlsplit(url).scheme in _DIRECTORIES


_DIRECTORIES = frozenset(
    {"redis", "rediss", "redis+unix", "valkey", "valkeys", "valkey+unix", "postgresql", "postgresql+psycopg"}
)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in schemes and bool(url.hostname) and url.username is None and (url.port or 1) > 0
    except ValueError:
        return False
