"""Sizes as people read them."""

from __future__ import annotations


def human_size(size: int) -> str:
    """A number of bytes with a unit, in powers of 1000 as docker shows them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
