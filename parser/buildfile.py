"""A recipe as a value: its stages, and what was noticed while it was read."""

from __future__ import annotations

from pybuild.parser.instructions import Arg, From, Instruction, Word
from pybuild.values import frozen
from pybuild.values.source import Source, Span


@frozen
class Stage:
    """A FROM and what follows it. `index` counts from 0."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str | None:
        """The alias, in lower case."""
        return self.base.alias


@frozen
class Checks:
    """What `# check=` says: rules to leave out (all of them: `*`), experimental ones to run, whether a finding fails."""

    skip: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    error: bool = False


@frozen
class ParseWarning:
    """Something that is allowed and that its reader should know of; `rule` is its name, by which it can be skipped."""

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
    line_checks: tuple[tuple[int, Checks], ...] = ()  # line of an instruction -> the `# check=` right above it
    warnings: tuple[ParseWarning, ...] = ()
