"""The first code of a child process: `python -m homeport.up.launch PARENT COMMAND...` runs `homeport COMMAND...`.

It asks the kernel to kill it when its parent dies, however that happens, so that no relay is left behind holding the
ports. The parent may have died before that was asked for; then another process is the parent by now.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
"""prctl(2), from linux/prctl.h."""


def main() -> None:
    """Tie this process to its parent, then be `homeport`."""
    parent, *command = sys.argv[1:]
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        sys.exit("homeport: the supervisor ended before this process began")

    from homeport.cli.root import cli

    cli(command, prog_name="homeport")


if __name__ == "__main__":
    main()
