"""COPY: from where to where, and with which owner and mode."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.plan import CopyStep
from builder.scope import Planned
from parser import PatternError, match_pattern

if TYPE_CHECKING:
    from builder.scope import Scope
    from parser import Copy

_OCTAL = re.compile(r"[0-7]{1,5}")


def plan_copy(instruction: Copy, scope: Scope) -> Planned:
    """Raises PlanError."""
    sources = tuple(scope.expand(word) for word in instruction.sources)
    dest = scope.expand(instruction.dest)
    if not dest or not all(sources):
        raise PlanError("COPY: a path is empty", span=instruction.span, hint="a variable without a value?")
    for word, source in zip(instruction.sources, sources, strict=True):
        try:
            for part in source.split("/"):
                match_pattern(part, "")
        except PatternError as error:
            raise PlanError(f"COPY: {error}", span=word.span) from None
    chown = scope.expand_flag(instruction.chown)
    mode_text = scope.expand_flag(instruction.chmod)
    mode = None
    if mode_text is not None:
        assert instruction.chmod is not None
        if not _OCTAL.fullmatch(mode_text) or int(mode_text, 8) > 0o7777:
            raise PlanError(f"--chmod={mode_text}: expected an octal mode up to 7777", span=instruction.chmod.span)
        mode = int(mode_text, 8)
    nodes: tuple[int | None, ...] = ()
    if instruction.from_ is not None:
        nodes = (scope.source(instruction.from_.text, instruction.span),)
    step = CopyStep(sources, absolute_dest(scope, dest), chown, mode, instruction.from_ is not None)
    flags = [f"--chown={chown}"] if chown is not None else []
    flags += [f"--chmod={mode_text}"] if mode_text is not None else []
    return Planned(step, nodes, " ".join(["COPY", *flags, *sources, dest, "# buildkit"]))


def absolute_dest(scope: Scope, dest: str) -> str:
    """A destination against the working directory; a slash at its end says that it is a directory, and stays."""
    absolute = scope.state.absolute(dest)
    if dest.endswith("/") or posixpath.basename(dest) in (".", ".."):
        absolute = absolute.rstrip("/") + "/"
    return absolute
