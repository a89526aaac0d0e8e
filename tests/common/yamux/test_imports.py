"""The multiplexer is pure: no event loop, no socket, no library, nothing of Homeport but the root of its errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SHOW = """
import sys
before = set(sys.modules)
import common.yamux, common.yamux.diagram
print(*sorted(set(sys.modules) - before))
"""


def test_what_importing_it_imports() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", _SHOW], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    modules = set(shown.stdout.split())
    assert "common.yamux.session" in modules
    foreign = {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith("common.yamux")} == {"common", "common.errors"}
    assert not modules & {"asyncio", "selectors", "socket", "ssl", "threading"}
