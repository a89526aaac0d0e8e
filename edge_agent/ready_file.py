"""The file that tells other processes how an agent is doing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from common.crypto.errors import KeyFileError
from common.logging import Logger
from common.process import write_ready_file
from edge_agent.agent import AgentState, AgentStatistics

__all__ = ["ReadyFile", "remove_ready_file"]


class ReadyFile:
    """Tells other processes how the agent is doing.

    An upgrade starts the new agent beside the old one, with the same settings: from then on the file is the new one's,
    and the old one neither says in it that it was replaced, nor takes it away when it ends. An agent whose file belongs
    to a process that is gone takes it back.

    Args:
        path: replaced as a whole at each change.
        relay: the URL that is dialled.
        logger: told when the file cannot be written, which does not stop the agent.
    """

    def __init__(self, path: Path, relay: str, logger: Logger) -> None:
        self._path = path
        self._relay = relay
        self._logger = logger
        self._written = False

    def update(self, statistics: AgentStatistics) -> None:
        """Say what is so now. The first time it makes the file this process's own."""
        if self._written and _is_anothers(self._path):
            return
        self._written = True
        content = {
            "connected": statistics.state is AgentState.CONNECTED,
            "state": statistics.state,
            "relay": self._relay,
            "session": statistics.session_id,
            "epoch": statistics.epoch,
        }
        try:
            write_ready_file(self._path, content)
        except KeyFileError as exc:
            self._logger.warning("the ready file cannot be written", detail=exc.detail)


def remove_ready_file(path: Path) -> None:
    """Take the file of this process away, as the agent ends. One that is another's by now, or is not there, is left."""
    if not _is_anothers(path):
        path.unlink(missing_ok=True)


def _is_anothers(path: Path) -> bool:
    """Whether a process that lives, and is not this one, wrote what is there."""
    try:
        owner = json.loads(path.read_bytes())["pid"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return isinstance(owner, int) and owner != os.getpid() and _lives(owner)


def _lives(pid: int) -> bool:
    if pid <= 0:  # would be a group of processes
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
