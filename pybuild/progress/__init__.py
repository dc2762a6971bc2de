"""The displays of a running build: a live view, plain lines, JSON, GitHub Actions, or nothing until it fails."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Protocol

from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.builder.events import Event
    from pybuild.progress.formatting import BuildInfo
    from pybuild.store.formats.digest import Digest

__all__ = ["COLOURS", "KINDS", "Progress", "colour_for", "human_size", "kind_for", "progress_for"]

KINDS = ("auto", "tty", "plain", "json", "quiet")
COLOURS = ("auto", "always", "never")


class Progress(Protocol):
    """Takes the events of one build, then either `finished` or `failed`. `close` always comes last."""

    def __call__(self, event: Event) -> None: ...

    def finished(self, manifest: Digest) -> None:
        """The build succeeded."""
        ...

    def failed(self, error: Exception) -> None:
        """Show the error that ended the build, after any buffered output that explains it."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was. Idempotent."""
        ...


def kind_for(asked: str, environ: Mapping[str, str], *, terminal: bool) -> str:
    """The display for a value of --progress: tty, plain, json, quiet or github. Raises ValueError if tty is impossible.

    `terminal` says whether standard error is a terminal. A terminal that cannot move its cursor gets plain lines.
    """
    movable = terminal and environ.get("TERM", "") not in ("", "dumb")
    match asked:
        case "auto" if movable:
            return "tty"
        case "auto":
            return "github" if environ.get("GITHUB_ACTIONS") == "true" else "plain"
        case "tty" if not movable:
            reason = f"TERM is {environ.get('TERM', '')!r}" if terminal else "standard error is not a terminal"
            raise ValueError(f"--progress=tty needs a terminal with a movable cursor, but {reason}")
        case _:
            return asked


def colour_for(asked: str, environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether a value of --color means colours: `auto` does on a terminal that has them, unless NO_COLOR is not empty.

    Source: https://no-color.org/ , by which an option for colours is stronger than the variable.
    """
    match asked:
        case "always":
            return True
        case "never":
            return False
        case _:
            return terminal and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


def progress_for(kind: str, build: BuildInfo | None, colour: str = "auto") -> Progress:
    """The display that `kind_for` chose, on standard error. Without a build, JSON becomes plain lines.

    `colour` is one of COLOURS; JSON and GitHub's commands are never coloured.
    """
    coloured = colour_for(colour, os.environ, terminal=sys.stderr.isatty())
    match kind:
        case "tty":
            from pybuild.progress.terminal import TerminalProgress

            return TerminalProgress(2, colour=coloured, clock=time.monotonic)
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

            return PlainProgress(sys.stderr.buffer, time.monotonic, terminal=sys.stderr.isatty(), colour=coloured)
