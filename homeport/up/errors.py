"""Errors of `homeport up`.

CommandError
└── SupervisorError
    ├── DataDirectoryError        the data directory cannot be made or used
    ├── DataDirectoryInUseError   another `homeport up` uses it
    ├── PortInUseError            a port is taken; names it and the flag that chooses another
    ├── ChildFailedError          a process ended, or did not get ready, during the start; shows its last lines
    └── NotReachableError         everything runs, and the demo device does not answer through the gateway
"""

from __future__ import annotations

from typing import ClassVar

from homeport.errors import CommandError

__all__ = [
    "ChildFailedError",
    "DataDirectoryError",
    "DataDirectoryInUseError",
    "NotReachableError",
    "PortInUseError",
    "SupervisorError",
]


class SupervisorError(CommandError):
    """Base of what keeps `homeport up` from being up."""

    code: ClassVar[str] = "up_failed"
    title: ClassVar[str] = "Homeport did not start"


class DataDirectoryError(SupervisorError):
    """The data directory cannot be made or used."""

    code: ClassVar[str] = "data_directory_unusable"


class DataDirectoryInUseError(SupervisorError):
    """Another `homeport up` uses the data directory."""

    code: ClassVar[str] = "data_directory_in_use"
    status: ClassVar[int] = 409


class PortInUseError(SupervisorError):
    """A port is taken."""

    code: ClassVar[str] = "port_in_use"
    status: ClassVar[int] = 409


class ChildFailedError(SupervisorError):
    """A process ended, or did not get ready, during the start."""

    code: ClassVar[str] = "process_failed"


class NotReachableError(SupervisorError):
    """The demo device does not answer through the gateway."""

    code: ClassVar[str] = "demo_not_reachable"
    status: ClassVar[int] = 504
