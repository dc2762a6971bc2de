"""A parsed recipe: its stages, and the warnings about its text."""

from __future__ import annotations

from pybuild.parser.instructions import Arg, From, Instruction, Word
from pybuild.values import frozen
from pybuild.values.source import Source, Span

MAX_OF_ONE_RULE = 100  # warnings; a recipe with 100,000 instructions could break a rule in each


@frozen
class Stage:
    """A FROM and the instructions that follow it. `index` counts from 0."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str | None:
        """The alias, in lower case."""
        return self.base.alias


@frozen
class Checks:
    """The value of `# check=`: rules to skip, experimental rules to run (`*`: all), whether a warning is an error."""

    skip: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    error: bool = False


@frozen
class ParseWarning:
    """A warning about valid but risky text. `rule` is the name by which the user can skip it."""

    rule: str
    message: str
    span: Span


@frozen
class Buildfile:
    """A parsed recipe."""

    source: Source
    escape: str  # "\\" or "`"
    args: tuple[Arg, ...]  # those before the first FROM
    stages: tuple[Stage, ...]
    syntax: Word | None = None  # the image that `# syntax=` names; nothing runs it
    checks: Checks | None = None
    line_checks: tuple[tuple[int, Checks], ...] = ()  # (line of an instruction, the `# check=` directly above it)
    warnings: tuple[ParseWarning, ...] = ()
