"""The ignore file: which paths of a context stay behind. The patterns of --exclude and --parents are of the same kind.

Semantics of moby's patternmatcher: the last line that matches decides, a line matches a path also when it matches one
of its parents, `!` takes back, patterns are anchored at the root of the context. Path and pattern are compared
component by component, all lines at once (`ignorewalk.py`): no pattern takes more than its length times that of the path,
and most take nothing at a path that they have nothing to do with.
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

_ANY = None  # the component `**`
_SPECIAL = frozenset("*?[\\")


class IgnoreLine(NamedTuple):
    """A line as it stands in the file, without blanks around it; lines are numbered from 1."""

    number: int
    text: str


@frozen
class _Rule:
    """One line. `segments` holds a literal, an expression, or None for `**`; or `deep` is the pattern."""

    line: IgnoreLine
    exclude: bool
    segments: tuple[Segment, ...]
    deep: DeepPattern | None = None


@frozen
class IgnoreFile:
    """The lines of an ignore file. Paths are relative to the context, without `./`."""

    rules: tuple[_Rule, ...]
    _walk: Walk = field(init=False, repr=False, compare=False)
    _deep: tuple[int, ...] = field(init=False, repr=False, compare=False)  # the rules that the walk does not know

    def __post_init__(self) -> None:
        object.__setattr__(self, "_walk", Walk([(rule.exclude, rule.segments) for rule in self.rules]))
        object.__setattr__(self, "_deep", tuple(n for n, rule in enumerate(self.rules) if rule.deep is not None))

    @staticmethod
    def parse(text: str) -> IgnoreFile:
        """Read the text of an ignore file. Raises PatternError, which names the line."""
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
                    raise PatternError(f"ignore file, line {number}: a lone !")
            clean = posixpath.normpath(pattern).lstrip("/")
            if clean in ("", "."):
                # The root itself cannot be left out; moby drops such lines too.
                continue
            try:
                rules.append(_rule(IgnoreLine(number, line.strip()), exclude, clean))
            except PatternError as error:
                raise PatternError(f"ignore file, line {number}: {error}") from None
        return IgnoreFile(tuple(rules))

    @staticmethod
    def of(patterns: Iterable[str]) -> IgnoreFile:
        """The patterns of a flag. Raises PatternError.

        As the lines of a file, but `#` begins a name like any other, and what begins with a slash matches nothing: the
        paths that it is compared with have none.
        """
        rules = []
        for number, text in enumerate(patterns, 1):
            pattern = text.strip()
            exclude = not pattern.startswith("!")
            clean = posixpath.normpath(pattern.removeprefix("!")) if pattern else "."
            if pattern == "!":
                raise PatternError("a lone !")
            if clean != ".":
                rules.append(_rule(IgnoreLine(number, text), exclude, clean))
        return IgnoreFile(tuple(rules))

    @property
    def has_exceptions(self) -> bool:
        """Whether any line takes something back."""
        return any(not rule.exclude for rule in self.rules)

    def excludes(self, path: str) -> bool:
        """Whether a path stays behind."""
        rule = self._deciding(path)
        return rule is not None and rule.exclude

    def matches_below(self, directory: str) -> bool:
        """Whether something below a directory may match a pattern without `!`."""
        return self._may_match_below(directory, exclude=True)

    def explain(self, path: str) -> IgnoreLine | None:
        """The line that decides about a path; None where no line matches it."""
        rule = self._deciding(path)
        return rule.line if rule is not None else None

    def may_contain_included(self, directory: str) -> bool:
        """Whether something below an excluded directory may have been taken back."""
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
    """Compile a clean pattern. Raises PatternError.

    moby takes `**` for whole directories, with two exceptions at the ends: `**name`, with nothing special behind it, is
    any path that ends so, and `name**` any that begins so.
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
