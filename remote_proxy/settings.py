"""The relay's settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from common.logging import Format, Level
from common.settings import Bytes, Port, Seconds, Settings
from remote_proxy.tunnels.origins import read_networks

__all__ = ["RelaySettings"]

_Count = Annotated[int, Meta(ge=1, le=10_000_000)]
_Rate = Annotated[float, Meta(gt=0, le=10_000_000)]

_MIB = 1024 * 1024


class RelaySettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the relay may be told, with the default of each."""

    section: ClassVar[str] = "relay"

    # Where it listens

    tunnel_host: Annotated[str, Meta(description="Address on which devices dial in.")] = "127.0.0.1"
    tunnel_port: Annotated[Port, Meta(description="Port on which devices dial in; 0 for any free one.")] = 3800
    tunnel_tls_cert_file: Annotated[
        Path | None, Meta(description="Certificate chain (PEM) of the tunnel port; without it the port speaks no TLS.")
    ] = None
    tunnel_tls_key_file: Annotated[Path | None, Meta(description="Private key (PEM) of the tunnel port.")] = None
    internal_host: Annotated[str, Meta(description="Address of internal HTTP: loopback, or a private one.")] = (
        "127.0.0.1"
    )
    internal_port: Annotated[Port, Meta(description="Port of internal HTTP; 0 for any free one.")] = 3801
    internal_tls_cert_file: Annotated[
        Path | None, Meta(description="Certificate chain (PEM) of internal HTTP; without it there is no TLS.")
    ] = None
    internal_tls_key_file: Annotated[Path | None, Meta(description="Private key (PEM) of internal HTTP.")] = None
    internal_tls_client_ca_file: Annotated[
        Path | None,
        Meta(description="Authority (PEM) of client certificates; with it, internal HTTP demands one (mutual TLS)."),
    ] = None

    # Whom it trusts

    internal_key_file: Annotated[
        Path | None,
        Meta(description="File (mode 0600) with the key that relay and API server share; needed unless mutual TLS is."),
    ] = None
    session_keys_file: Annotated[
        Path, Meta(description="Public keys (JWK set) that session tokens are checked with; re-read when it changes.")
    ]

    await_revocations: Annotated[
        bool,
        Meta(
            description="Admit no device until the API server has told, since this start, what is revoked. Without it "
            "a relay that was just restarted admits a revoked device until it is told."
        ),
    ] = False

    # Who it is

    relay_name: Annotated[
        str, Meta(description="Name of this relay in lists of sessions; host and port by default.", max_length=100)
    ] = ""

    # Limits

    max_tunnels: Annotated[_Count, Meta(description="Tunnels at a time.")] = 20_000
    max_streams_per_tunnel: Annotated[_Count, Meta(description="Streams of one tunnel at a time.")] = 1024
    max_opens_per_second: Annotated[_Rate, Meta(description="Streams opened a second on one tunnel.")] = 2000.0
    handshakes_per_second: Annotated[_Rate, Meta(description="Tunnel handshakes a second, in the long run.")] = 1000.0
    handshakes_burst: Annotated[
        _Rate, Meta(description="Tunnel handshakes at once, as after a restart of the relay.")
    ] = 5000.0
    failed_handshakes_per_second: Annotated[
        _Rate, Meta(description="Handshakes from one address that may fail for their token, in the long run.")
    ] = 1.0
    failed_handshakes_burst: Annotated[
        _Count,
        Meta(description="The same at once; beyond, the address is refused with 429 without a look at its tokens."),
    ] = 20
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses and networks of proxies whose X-Forwarded-For says which address dials the tunnel "
            "port. While one of them does not say, failed handshakes through it count against all of the relay."
        ),
    ] = ("127.0.0.1", "::1")
    max_pending_handshakes: Annotated[
        _Count, Meta(description="Connections to the tunnel port at a time that are no tunnel yet.")
    ] = 5000
    max_handshake_bytes: Annotated[Bytes, Meta(description="Size of a handshake's request head.")] = 16 * 1024
    handshake_timeout: Annotated[Seconds, Meta(description="Time for a handshake, TLS included.")] = 10.0
    max_pending_heads: Annotated[
        _Count, Meta(description="Connections to internal HTTP at a time that have not sent a request head yet.")
    ] = 5000
    max_head_bytes: Annotated[Bytes, Meta(description="Size of a request head on internal HTTP.")] = 16 * 1024
    head_timeout: Annotated[Seconds, Meta(description="Time for a request head on internal HTTP.")] = 10.0
    memory_budget: Annotated[
        Bytes, Meta(description="Receive windows of all tunnels together, beyond 256 KiB a stream.")
    ] = 1024 * _MIB
    session_memory_budget: Annotated[
        Bytes, Meta(description="Receive windows of one tunnel together, beyond 256 KiB a stream.")
    ] = 64 * _MIB
    buffer_budget: Annotated[
        int,
        Meta(
            ge=_MIB,
            le=2**53,
            extra={"unit": "bytes"},
            description="Bytes that the relay holds for readers that do not take them, all streams together; beyond, "
            "the streams that hold the most are reset.",
        ),
    ] = 1024 * _MIB
    stream_idle_timeout: Annotated[
        Seconds, Meta(description="Time without a byte either way after which a stream is reset; 0 for never.")
    ] = 3600.0
    max_events: Annotated[_Count, Meta(description="Events kept for readers of the event feed that fell behind.")] = (
        4096
    )

    # Liveness and the end

    probe_interval: Annotated[Seconds, Meta(description="Silence of a device after which it is probed.")] = 5.0
    dead_after: Annotated[Seconds, Meta(description="Silence of a device after which its tunnel is ended.")] = 15.0
    drain_grace: Annotated[
        Seconds, Meta(description="Time that streams have to end after SIGTERM; devices are asked to redial within it.")
    ] = 30.0

    handover_timeout: Annotated[
        Seconds,
        Meta(
            description="Time to wait at the start for ports that another relay has; that one gives them up when it is "
            "told to end, if it has this setting, too. 0: do not wait, and keep the ports to the end."
        ),
    ] = 0.0

    # The process

    log_level: Annotated[Level, Meta(description="Lowest level that is logged.")] = "info"
    log_format: Annotated[Format, Meta(description="json for machines, console for people.")] = "json"
    ready_file: Annotated[
        Path | None, Meta(description="File that gets pid and URLs as JSON once the relay listens.")
    ] = None

    def __post_init__(self) -> None:
        if self.internal_key_file is None and self.internal_tls_client_ca_file is None:
            # Also on loopback: every user and every web page of the machine could reach every device otherwise.
            beyond = "" if _is_loopback(self.internal_host) else " beyond loopback"
            raise ValueError(
                f"internal HTTP does not listen{beyond} without authentication: "
                "set internal_key_file, or internal_tls_client_ca_file for mutual TLS"
            )
        for side in ("tunnel", "internal"):
            if (getattr(self, f"{side}_tls_cert_file") is None) is not (getattr(self, f"{side}_tls_key_file") is None):
                raise ValueError(f"{side}_tls_cert_file and {side}_tls_key_file go together")
        if self.internal_tls_client_ca_file is not None and self.internal_tls_cert_file is None:
            raise ValueError("internal_tls_client_ca_file needs internal_tls_cert_file and internal_tls_key_file")
        try:
            read_networks(self.trusted_proxies)
        except ValueError:
            raise ValueError("trusted_proxies must be addresses or networks, such as 10.0.0.0/8") from None
        if not 0 < self.probe_interval < self.dead_after:
            raise ValueError("dead_after must be longer than probe_interval, and both more than 0")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
