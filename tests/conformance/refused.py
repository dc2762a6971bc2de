"""The cases that need what is not there yet, and what pybuild says to them instead: line, column and message.

A case leaves this table when its feature arrives: the runner asserts that each is still refused in exactly these words.
"""

from __future__ import annotations

REFUSED: dict[str, tuple[int, int, str]] = {
    "run-cache-mount": (2, 5, "mounts of type cache are not supported yet"),
}
