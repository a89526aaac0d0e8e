"""Times as people write and read them."""

from __future__ import annotations

import re

import click

__all__ = ["ago", "moment", "parse_duration", "size"]

_FACTORS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PATTERN = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)


def parse_duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Callback of an option: whole seconds, from a number with `s`, `m`, `h`, `d` or nothing after it."""
    if value is None:
        return None
    match = _PATTERN.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no time: write 90, 90s, 15m, 24h or 7d")
    return int(match[1]) * _FACTORS[match[2]]


def ago(seconds: float) -> str:
    """A length of time in its two largest units: `3d 4h`, `12s`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, factor)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def moment(at: float | None, now: float) -> str:
    """A moment as people read it: `3m 2s ago`, `in 14m 58s`, `never`.

    Args:
        at: seconds since the Unix epoch; None for never.
        now: the same.
    """
    if at is None:
        return "never"
    return f"{ago(now - at)} ago" if at <= now else f"in {ago(at - now)}"


def size(count: int) -> str:
    """A number of bytes in the unit that leaves one to three digits before the point."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
