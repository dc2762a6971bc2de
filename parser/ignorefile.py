"""The ignore file, which excludes paths of a context. --exclude and --parents have patterns of the same kind.

The semantics are those of moby's patternmatcher: the last line that matches decides; a line that matches a parent of a
path matches the path; `!` includes paths again; patterns are anchored at the root of the context. ignorewalk.py compares
paths with all lines at once, name by name. A pattern costs at most its length times the length of the path, and most
patterns cost nothing for an unrelated path.
"""

from __future__ import annotations

import posixpath
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from pybuild.parser.deepmatch import DeepPattern
from pybuild.parser.errors import PatternError
from pybuild.parser.ignorewalk import Segment, Walk
from pybuild.parser.patterns import compile_segment
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANY = None  # the segment `**`
_SPECIAL = frozenset("*?[\\")


class IgnoreLine(NamedTuple):
    """A line of the file without the blanks around it. Line numbers count from 1."""

    number: int
    text: str


@frozen
class _Rule:
    """One compiled line. Its pattern is either `segments` (literals, expressions, None for `**`) or `deep`."""

    line: IgnoreLine
    exclude: bool
    segments: tuple[Segment, ...]
    deep: DeepPattern | None = None


@frozen
class IgnoreFile:
    """The lines of an ignore file. Paths are relative to the context, without `./`."""

    rules: tuple[_Rule, ...]
    _walk: Walk = field(init=False, repr=False, compare=False)
    _deep: tuple[int, ...] = field(init=False, repr=False, compare=False)  # indexes of the rules with a deep pattern

    def __post_init__(self) -> None:
        object.__setattr__(self, "_walk", Walk([(rule.exclude, rule.segments) for rule in self.rules]))
        object.__setattr__(self, "_deep", tuple(n for n, rule in enumerate(self.rules) if rule.deep is not None))

    @staticmethod
    def parse(text: str) -> IgnoreFile:
        """Read the text of an ignore file. Raises PatternError with the number of the line."""
        rules = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            if line.startswith("#"):
                continue
            pattern = line.strip()
            if not pattern:
                continue
            exclude = not pattern.startswith("!")
            if not exclude:
                pattern = pattern[1:].strip()
                if not pattern:
                    raise PatternError(f"ignore file, line {number}: a lone ! without a pattern")
            clean = posixpath.normpath(pattern).lstrip("/")
            if clean in ("", "."):
                # The root itself cannot be excluded; moby drops such lines too.
                continue
            try:
                rules.append(_rule(IgnoreLine(number, line.strip()), exclude, clean))
            except PatternError as error:
                raise PatternError(f"ignore file, line {number}: {error}") from None
        return IgnoreFile(tuple(rules))

    @staticmethod
    def of(patterns: Iterable[str]) -> IgnoreFile:
        """The patterns of a flag. Raises PatternError.

        They differ from the lines of a file in two points: `#` does not begin a comment, and a pattern with a leading
        slash matches nothing, because paths have no leading slash.
        """
        rules = []
        for number, text in enumerate(patterns, 1):
            pattern = text.strip()
            exclude = not pattern.startswith("!")
            clean = posixpath.normpath(pattern.removeprefix("!")) if pattern else "."
            if pattern == "!":
                raise PatternError("a lone ! without a pattern")
            if clean != ".":
                rules.append(_rule(IgnoreLine(number, text), exclude, clean))
        return IgnoreFile(tuple(rules))

    def excludes(self, path: str) -> bool:
        """Whether a path is excluded."""
        rule = self._deciding(path)
        return rule is not None and rule.exclude

    def matches_below(self, directory: str) -> bool:
        """Whether a path below a directory could match a pattern without `!`."""
        return self._may_match_below(directory, exclude=True)

    def explain(self, path: str) -> IgnoreLine | None:
        """The line that decides about a path; None if no line matches it."""
        rule = self._deciding(path)
        return rule.line if rule is not None else None

    def may_contain_included(self, directory: str) -> bool:
        """Whether a line with `!` could include a path below an excluded directory again."""
        return self._may_match_below(directory, exclude=False)

    def _deciding(self, path: str) -> _Rule | None:
        found = self._walk.at(path).deciding
        for number in self._deep:
            deep = self.rules[number].deep
            if number > found and deep is not None and deep.run(path)[0]:
                found = number
        return self.rules[found] if found >= 0 else None

    def _may_match_below(self, directory: str, *, exclude: bool) -> bool:
        if self._walk.may_match_below(directory, exclude=exclude):
            return True
        deep = (rule.deep for rule in self.rules if rule.deep is not None and rule.exclude is exclude)
        return any(pattern.run(directory)[1] for pattern in deep)


def _rule(line: IgnoreLine, exclude: bool, pattern: str) -> _Rule:
    """Compile a pattern that normpath has cleaned. Raises PatternError.

    In moby `**` matches whole directories, with two exceptions: `**name` without further special characters matches any
    path that ends in `name`, and `name**` any path that begins with it.
    """
    if pattern.startswith("**") and not pattern.startswith("**/") and not _SPECIAL & set(pattern[2:]):
        pattern = f"**/*{pattern[2:]}" if pattern != "**" else pattern
    elif pattern.startswith("**"):
        pattern = "**/" + pattern[2:].removeprefix("/")
    if pattern.endswith("**") and not pattern.endswith("/**") and pattern != "**":
        pattern = pattern[:-1]
    if any("**" in part and part != "**" for part in pattern.split("/")):
        return _Rule(line, exclude, (), DeepPattern.compile(pattern))
    return _Rule(line, exclude, _segments(pattern))


def _segments(pattern: str) -> tuple[Segment, ...]:
    found: list[Segment] = []
    for part in pattern.split("/"):
        if part == "**":
            if not found or found[-1] is not _ANY:
                found.append(_ANY)
        elif _SPECIAL & set(part):
            found.append(compile_segment(part))
        else:
            found.append(part)
    return tuple(found)
