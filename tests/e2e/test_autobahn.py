"""The Autobahn test suite against an echo service, with and without the tunnel between: the verdicts are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import autobahn
from tests.e2e.stage import Workshop
from tests.stack.installation import Installation

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.1", "9.2.1", "10.*", "12.1.1", "12.1.2", "13.1.1"]
"""Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, 64 KiB messages. Of compression, whose cases take
seconds each, three: the tunnel does not see it."""

EXCLUDED = ["6.4.*"]
"""They measure, to the second, how early a server fails on bad UTF-8."""


@pytest.mark.timeout(600)  # the first time, the suite is fetched
def test_the_tunnel_changes_no_verdict(installation: Installation, workshop: Workshop, tmp_path: Path) -> None:
    python = autobahn.find_python()
    if python is None:
        pytest.skip("Autobahn's test suite needs Python 2.7, and there is none on this machine")
    through = installation.url(workshop.name, "echo").replace("http", "ws", 1)
    verdicts = autobahn.run(
        python,
        autobahn.install(python),
        tmp_path,
        {"direct": (f"ws://{workshop.echo.websocket}/", {}), "tunnel": (through, installation.authorization)},
        cases=CASES,
        excluded=EXCLUDED,
    )
    assert len(verdicts["direct"]) > 240
    assert conformance(verdicts["tunnel"]) == conformance(verdicts["direct"])


def conformance(verdicts: dict[str, autobahn.Verdict]) -> dict[str, autobahn.Verdict]:
    """The verdicts without the suite's distinction of OK and NON-STRICT. In the cases that have it, a good message is
    followed by a bad frame, and both are right: to answer the message first, or not; a server does the one or the other
    as the two arrive apart or together.
    """
    return {case: (what.replace("NON-STRICT", "OK"), close, code) for case, (what, close, code) in verdicts.items()}
