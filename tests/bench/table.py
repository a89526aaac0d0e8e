"""Every row of the bench, with its goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.bench.broker import BrokerTokens
from tests.bench.goals import AtLeast, AtMost, Goal
from tests.bench.many import ManyTunnels
from tests.bench.price import GatewayPrice, Lookups
from tests.bench.rows import Bulk, Curve, Far, IdleTunnels, Mixed, Requests, Row
from tests.bench.sides import BARE, FIXED, HANDLER, HOMEPORT, OPEN, REFERENCE, SSH
from tests.bench.tokens import ManyApiTokens, Revocation

__all__ = ["ROWS", "with_peers"]


def _more(figure: str, limit: float) -> Goal:
    return AtLeast(figure, limit, of_reference=True)


def _less(figure: str, limit: float) -> Goal:
    return AtMost(figure, limit, of_reference=True)


_ALL = (HOMEPORT, REFERENCE, BARE)
_SAME = (_more("MiB/s", 1.3), _less("CPU s/GiB", 0.9))

ROWS: tuple[Row, ...] = (
    Bulk(key="download", title="bulk download, one stream", method="GET", goals=_SAME, sides=_ALL),
    Bulk(key="upload", title="bulk upload, one stream", method="PUT", goals=_SAME, sides=_ALL),
    Requests(
        key="small",
        title="small requests, 32 keep-alive connections",
        connections=32,
        goals=(_more("requests/s", 1.0),),
        sides=_ALL,
    ),
    Requests(
        key="close",
        title="small requests, 32 connections, without keep-alive",
        connections=32,
        close=True,
        goals=(_more("requests/s", 1.5),),
        sides=_ALL,
    ),
    Requests(
        key="one",
        title="small requests, one connection",
        connections=1,
        goals=(_less("p50 ms", 1.5),),
        sides=_ALL,
    ),
    Mixed(
        key="mixed",
        title="small requests while a bulk download fills the same tunnel",
        goals=(AtMost("p99 busy/quiet", 3.0, False), AtLeast("bulk busy/alone", 0.8, False)),
    ),
    Bulk(
        key="tls-download",
        title="bulk download, one stream, TLS on the tunnel",
        method="GET",
        goals=(_more("MiB/s", 1.0),),
        tls=True,
    ),
    Bulk(
        key="tls-upload",
        title="bulk upload, one stream, TLS on the tunnel",
        method="PUT",
        goals=(_more("MiB/s", 1.0),),
        tls=True,
    ),
    Requests(
        key="tls-small",
        title="small requests, 32 keep-alive connections, TLS on the tunnel",
        connections=32,
        goals=(_more("requests/s", 1.0),),
        tls=True,
    ),
    Far(
        key="far",
        title="one stream at 100 ms round trip",
        goals=(AtLeast("MiB/s", 10.0, of_reference=True, against=FIXED),),
        sides=(HOMEPORT, REFERENCE, FIXED),
        line="both delay 50ms",
    ),
    Curve(key="curve", title="small requests at a fixed rate, 64 connections", goals=(), sides=_ALL),
    IdleTunnels(
        key="idle",
        title="idle tunnels",
        goals=(AtMost("KiB a tunnel", 12.0, False), AtLeast("accepts/s", 1_500.0, False)),
    ),
    ManyTunnels(
        key="many",
        title="one device among 10,000 idle tunnels",
        goals=(
            AtMost("CPU many/few", 1.1, False),
            AtMost("ms, GET /api/sessions?limit=100", 50.0, False),
            AtMost("ms, GET /api/sessions?limit=1000", 50.0, False),
        ),
        sides=(HOMEPORT,),
    ),
    GatewayPrice(
        key="price",
        title="small requests by token and route, 32 keep-alive connections, against the bare forward",
        goals=(AtLeast("requests/s", 0.9, of_reference=True, against=OPEN),),
    ),
    Lookups(
        key="lookups",
        title="a look into the route table",
        goals=(AtMost("lookup many/few", 1.2, False),),
    ),
    ManyApiTokens(
        key="tokens",
        title="one API token among 10,000",
        goals=(AtMost("remembered many/few", 1.2, False), AtMost("looked up many/few", 1.2, False)),
    ),
    Revocation(
        key="revocation",
        title="from a revocation's answer to the first refusal on another API process",
        goals=(AtMost("p99 ms", 1_000.0, False),),
    ),
    BrokerTokens(
        key="broker",
        title="a brokered token from the cache, 300 connections, against a bare aiohttp handler",
        goals=(AtLeast("requests/s", 0.8, of_reference=True, against=HANDLER), AtMost("p99/p50", 5.0, False)),
    ),
)
"""Every row, in the order in which they are measured."""


def with_peers(rows: Sequence[Row]) -> list[Row]:
    """The rows, with OpenSSH beside the other sides where it can carry the load."""
    able = {"download", "upload", "small", "close", "one", "mixed", "curve"}
    return [replace(row, sides=(*row.sides, SSH)) if row.key in able else row for row in rows]
