"""The fuzzers find nothing in a bounded run from their seeds. They may run for ever: see their modules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common.yamux.wire import ACK, FIN, RST, SYN, data, frame, go_away, ping, window

pytest.importorskip("atheris", reason="atheris has no wheel for this Python")

ROOT = Path(__file__).parents[3]
RUNS = int(os.environ.get("FUZZ_RUNS", "3000"))

# The first byte is how the rest is cut (fuzz_frames).
FRAMES = {
    "a stream": b"\x07" + window(1, flags=SYN) + data(1, b"hello") + window(1, 5) + window(1, flags=FIN),
    "all in one": b"\x00" + data(1, b"hello", SYN | FIN),
    "ours": b"\xff" + window(2, 9, ACK) + data(2, b"x") + window(2, 3, RST) + data(2, b"late"),
    "the session": b"\x0b" + ping(1) + ping(2, ACK) + go_away(1),
    "overrun": b"\xff" + window(3, flags=SYN) + frame(0, 0, 3, 262_145),
    "never opened": b"\x05" + data(9, b"x"),
    "opened twice": b"\x0c" + window(1, flags=SYN) * 2,
    "too many": b"\xff" + b"".join(data(n, b"x", SYN) for n in range(1, 25, 2)),
    "flood": b"\xff" + ping(1) * 21,
    "text": b"\xffGET / HTTP/1.1\r\n\r\n",
}


def run(name: str, seeds: dict[str, bytes], tmp_path: Path) -> str:
    corpus, found = tmp_path / "seeds", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    for seed, content in seeds.items():
        (corpus / seed.replace(" ", "-")).write_bytes(content)
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            f"tests.common.yamux.{name}",
            f"-runs={RUNS}",
            "-seed=1",
            "-max_len=600",
            f"-artifact_prefix={tmp_path}/",
            str(found),
            str(corpus),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-5000:]
    return finished.stderr


def test_frames(tmp_path: Path) -> None:
    assert f"Done {RUNS} " in run("fuzz_frames", FRAMES, tmp_path)


def test_session(tmp_path: Path) -> None:
    # Choices are read from the end of the input, so any bytes are a run; longer ones are longer runs.
    seeds = {str(n): bytes((n * i * 37 + i // 7) & 255 for i in range(30 * n)) for n in range(1, 16)}
    assert f"Done {RUNS} " in run("fuzz_session", seeds, tmp_path)
