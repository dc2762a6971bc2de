"""Helpers for tests that fetch sources by HTTP or git."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.cli import BASE

if TYPE_CHECKING:
    from pathlib import Path


def recipe(*lines: str) -> str:
    """A recipe with these lines on the base."""
    return "\n".join((f"FROM {BASE}", *lines)) + "\n"


def quick(tmp_path: Path, **limits: int) -> dict[str, str]:
    """An environment whose configuration allows no retries."""
    path = tmp_path / "config.toml"
    path.write_text("[limits]\nretries = 1\n" + "".join(f"{k.replace('_', '-')} = {v}\n" for k, v in limits.items()))
    return {"PYBUILD_CONFIG": str(path)}
