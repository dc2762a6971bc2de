"""What a build shows while it runs: a live view, plain lines, JSON objects, or nothing until something fails."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Protocol

from pybuild.progress.words import human_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.builder.events import Event
    from pybuild.progress.words import BuildInfo
    from pybuild.store.formats.digest import Digest

__all__ = ["KINDS", "Progress", "human_size", "kind_for", "progress_for"]

KINDS = ("auto", "tty", "plain", "json", "quiet")


class Progress(Protocol):
    """Takes the events of one build, and one of `finished` and `failed`. `close` comes last, however it ended."""

    def __call__(self, event: Event) -> None: ...

    def finished(self, manifest: Digest) -> None:
        """The build is done."""
        ...

    def failed(self, error: Exception) -> None:
        """Tell the error that ended the build, after what was held back and helps to understand it."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was. Idempotent."""
        ...


def kind_for(asked: str, environ: Mapping[str, str], *, terminal: bool) -> str:
    """The display that is meant: tty, plain, json, quiet or github. Raises ValueError where it cannot be had.

    `terminal` tells whether standard error is one. A terminal that cannot move its cursor gets plain lines.
    """
    moves = terminal and environ.get("TERM", "") not in ("", "dumb")
    match asked:
        case "auto" if moves:
            return "tty"
        case "auto":
            return "github" if environ.get("GITHUB_ACTIONS") == "true" else "plain"
        case "tty" if not moves:
            lacks = f"TERM is {environ.get('TERM', '')!r}" if terminal else "standard error is not a terminal"
            raise ValueError(f"--progress=tty needs a terminal with a movable cursor, but {lacks}")
        case _:
            return asked


def progress_for(kind: str, build: BuildInfo | None) -> Progress:
    """The display that `kind_for` named, on standard error. Only of a build there is JSON."""
    match kind:
        case "tty":
            from pybuild.progress.terminal import TerminalProgress

            return TerminalProgress(2, colour=not os.environ.get("NO_COLOR"), clock=time.monotonic)
        case "json" if build is not None:
            from pybuild.progress.jsonlines import JsonProgress

            return JsonProgress(build)
        case "quiet":
            from pybuild.progress.quiet import QuietProgress

            return QuietProgress()
        case "github":
            from pybuild.progress.github import GithubProgress

            return GithubProgress(sys.stderr.buffer, os.environ.get("GITHUB_WORKSPACE", ""), time.monotonic)
        case _:
            from pybuild.progress.plain import PlainProgress

            return PlainProgress(sys.stderr.buffer, time.monotonic, terminal=sys.stderr.isatty())
