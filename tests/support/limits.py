"""Limits for tests that read something small."""

from __future__ import annotations

from pybuild.values.limits import Limit, Unit


def at_most(size: int) -> Limit:
    """A limit of `size` bytes."""
    return Limit("of-this-test", size, Unit.BYTES, "what this test reads")
