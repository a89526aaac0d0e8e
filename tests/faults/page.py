"""Writes docs/reference/faults.md from the table: `python -m tests.faults.page`."""

from __future__ import annotations

from pathlib import Path

from tests.faults.matrix import Cell, Fault, Hop, Load, all_cells, outcomes
from tests.faults.rig import TIMES

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"

_INTRODUCTION = """\
# Faults, and what comes of them

Written from the table of the tests by `python -m tests.faults.page`.

Each of {faults} faults is laid on each of {hops} hops under each of {loads} loads: {cells} cells, with real processes
and a chaos proxy on the wire. `make faults` runs all of them, `make test` a share in which each fault meets each hop
and each load. In every cell:

- nothing hangs: every end is told within a bound;
- no byte is wrong on what completes, nor on what came before a failure; a corrupted byte on a hop without TLS is the
  one exception;
- nothing leaks: sessions, streams, tasks, descriptors, threads are back at the level from before, memory within 48 MiB;
- another device, asked all the time, notices nothing;
- the device serves again afterwards.

Up is towards the service. `ok` is complete and unharmed. A code is the gateway's answer. `cut` is a reset, or an end
before what HTTP or WebSocket had promised, which the reader notices. `short` is an end in order of raw TCP before its
time: bare bytes cannot tell, with Homeport or without. `silent`: the end's own line is dead, and nobody can tell it;
everybody else is told. `any`: a changed byte on a hop without TLS arrives, or breaks something, as it would without
Homeport. `ok` beside something else: it depends on where the fault falls, or a keep-alive connection had its end. Small
requests and idle connections go on after a failure; what is said of them is what one request may get meanwhile.

The waiting times are shortened; with the defaults the same comes later:
{times}
"""

_NOTES = {
    Hop.CLIENT: "The gateway is behind a reverse proxy with TLS, or in a private network: a corrupted byte is theirs.",
    Hop.GATEWAY: """\
Each stream has a connection of its own here: a fault of one harms one stream. A fault of the hop as a whole harms all
requests of the gateway, and no tunnel; a test of its own shows that too. A corrupted byte is not noticed unless
internal HTTP is under TLS.""",
    Hop.TUNNEL: """\
Without TLS, for laboratories: a corrupted byte in a frame's head ends the tunnel, in a payload it is not noticed.""",
    Hop.TUNNEL_TLS: "As the tunnel is outside of laboratories: every corrupted byte is detected, and ends the tunnel.",
    Hop.SERVICE: "On the device's own machine or network.",
}


def page() -> str:
    """The text."""
    table = outcomes()
    times = "".join(
        f"\n- {process.lower()}: {', '.join(f'`{name.lower()}` {value:g} s' for name, value in values.items())}"
        for process, values in TIMES.items()
    )
    parts = [
        _INTRODUCTION.format(
            faults=len(Fault), hops=len(Hop), loads=len(Load), cells=len(list(all_cells())), times=times
        )
    ]
    for hop in Hop:
        rows = [
            f"\n## {hop}\n\n{_NOTES[hop]}\n",
            f"| | {' | '.join(Load)} |",
            f"| --- |{' --- |' * len(Load)}",
            *(f"| {fault} | {' | '.join(str(table[Cell(hop, fault, load)]) for load in Load)} |" for fault in Fault),
        ]
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
