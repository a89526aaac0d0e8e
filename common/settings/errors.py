"""Errors of settings.

HomeportError
└── SettingsError    500 wrong_settings    settings are missing, wrong or unknown; it lists every problem found
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from common.errors import HomeportError

__all__ = ["Problem", "SettingsError"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. Neither part holds a value."""

    where: str
    """The key and its source: `HOMEPORT_API_PORT (environment)`."""
    what: str
    """What is expected there: `expected an integer from 0 to 65535`."""
    missing: bool = False
    """Whether nothing is wrong but that a required setting is not given."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class SettingsError(HomeportError):
    """Settings are missing, wrong or unknown.

    Args:
        problems: at least one.
    """

    code: ClassVar[str] = "wrong_settings"
    title: ClassVar[str] = "Wrong settings"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)
