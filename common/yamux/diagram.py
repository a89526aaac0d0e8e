"""Draws the table of stream states for the documentation.

`python -m common.yamux.diagram > docs/reference/yamux-states.md`; a test holds the file to the table.
"""

from __future__ import annotations

import sys

from common.yamux.states import TRANSITIONS, StreamInput, StreamState

__all__ = ["draw"]

_HEAD = """\
# The states of a yamux stream

Drawn from the table in `common/yamux/states.py` by `python -m common.yamux.diagram > docs/reference/yamux-states.md`.
`send` is what our side does, `receive` what the peer does; one frame can be several of them, in the order of the table.
"""

_BETWEEN = """
What does not change the state is left out of the diagram and is in the table. An empty cell is a violation: ours is
refused with `LocalProtocolError`, the peer's has the stream reset with code 8, and ends the session on a stream that
was never opened. A SYN for a CLOSED stream is taken for a new stream, since closed ids are not remembered.
"""


def draw() -> str:
    """The page, as Markdown with a Mermaid diagram."""
    lines = [_HEAD, "```mermaid", "stateDiagram-v2", f"    [*] --> {StreamState.IDLE.name}"]
    for state, row in TRANSITIONS.items():
        reasons: dict[StreamState, list[str]] = {}
        for what, following in row.items():
            if following is not state:
                reasons.setdefault(following, []).append(_words(what))
        lines += [f"    {state.name} --> {following.name}: {', '.join(words)}" for following, words in reasons.items()]
    lines += [f"    {StreamState.CLOSED.name} --> [*]", "```", _BETWEEN]
    lines.append("| | " + " | ".join(state.name for state in StreamState) + " |")
    lines.append("| --- " * (len(StreamState) + 1) + "|")
    for what in StreamInput:
        cells = [TRANSITIONS[state].get(what) for state in StreamState]
        lines.append(f"| {_words(what)} | " + " | ".join("" if cell is None else cell.name for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _words(what: StreamInput) -> str:
    verb, _, noun = what.name.partition("_")
    return f"{verb.lower()} {noun}"


if __name__ == "__main__":
    sys.stdout.write(draw())
