"""Go programs that stand for other people's software, and the one way to build them.

They need Debian's `golang-go`, `golang-github-hashicorp-yamux-dev` and `golang-github-gorilla-websocket-dev`, and
nothing from a network: those packages put their sources under `/usr/share/gocode`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["GoMissingError", "build"]

_SOURCES = Path(__file__).parent
_CACHE = _SOURCES.parent.parent / ".cache" / "golang"


class GoMissingError(RuntimeError):
    """There is no `go` command on PATH."""


def build(name: str) -> Path:
    """Compile the program in `tests/golang/<name>` unless it is compiled already. Returns the executable.

    The cache is keyed by every source here (programs share packages by relative import) and by the compiler, so a
    binary is never older than what it was made of.

    Raises:
        GoMissingError: no compiler.
        subprocess.CalledProcessError: it does not compile; its `stderr` says why.
    """
    go = shutil.which("go")
    if go is None:
        raise GoMissingError("no `go` on PATH: `make test`, run as root, installs Debian's golang-go")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "CGO_ENABLED": "0"}
    environment.setdefault("GOCACHE", str(_CACHE / "objects"))

    digest = hashlib.sha256()
    digest.update(subprocess.run([go, "version"], env=environment, check=True, capture_output=True).stdout)
    for source in sorted(_SOURCES.rglob("*.go")):
        digest.update(f"{source.relative_to(_SOURCES)}\0".encode())
        digest.update(source.read_bytes())
    binary = _CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if binary.exists():
        return binary

    _CACHE.mkdir(parents=True, exist_ok=True)
    # Two test processes may build at once: each writes a file of its own, and the rename is atomic.
    unfinished = binary.with_name(f"{binary.name}.{os.getpid()}")
    subprocess.run(
        [go, "build", "-o", str(unfinished), "."],
        cwd=_SOURCES / name,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    unfinished.replace(binary)
    return binary
