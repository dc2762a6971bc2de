"""The cases that need what is not there yet, and what pybuild says to them instead: line, column and message.

A case leaves this table when its feature arrives: the runner asserts that each is still refused in exactly these words.
"""

from __future__ import annotations

_HEREDOC = "heredocs (<<EOF) are not supported yet"

REFUSED: dict[str, tuple[int, int, str]] = {
    "run-cache-mount": (2, 5, "RUN --mount is not supported yet"),
    "run-heredoc": (2, 1, _HEREDOC),
    "run-heredoc-shebang": (2, 1, _HEREDOC),
    "run-network-none": (2, 5, "RUN --network is not supported yet"),
    "run-secret-missing-optional": (2, 5, "RUN --mount is not supported yet"),
    "run-tmpfs-mount": (2, 5, "RUN --mount is not supported yet"),
}
