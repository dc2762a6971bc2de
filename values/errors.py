"""The base class of all errors that pybuild raises on purpose, and how an error gets its place in a recipe.

    PybuildError
      ParseError      parser/errors.py     the text of a recipe cannot be read
      StoreError      store/errors.py      bytes on disk, or on their way there: NotFound, InvalidImage, NoSpace, ...
      RemoteError     remote/errors.py     another machine fails: Unreachable, TooSlow, Unauthorized, GitFailed, ConfigError
      BuildError      builder/errors.py    the build cannot go on, or a step fails: PlanError, StepFailed, ...

An error never changes. A caller that knows more, such as the place in the recipe, raises a copy that says so:

    except PybuildError as error:
        raise error.at(node.span) from error
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pybuild.values.source import Source, Span


class PybuildError(Exception):
    """A failure that the user can do something about, so it is printed without a traceback.

    `hint` is one line of advice, `span` the place in the recipe `source`; each can be None. `platform` is the one that
    failed of a build for several, else "".
    """

    def __init__(
        self, message: str, *, hint: str | None = None, span: Span | None = None, source: Source | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.span = span
        self.source = source
        self.platform = ""

    def at(self, span: Span | None = None, *, source: Source | None = None, platform: str = "") -> Self:
        """The same error with a place in a recipe. An existing place stays, because it is more exact."""
        return self._changed(span=self.span or span, source=self.source or source, platform=self.platform or platform)

    def hinting(self, hint: str | None) -> Self:
        """The same error with another hint."""
        return self._changed(hint=hint)

    def advising(self, more: str) -> Self:
        """The same error with another piece of advice at the end of its hint."""
        if not self.hint or not more:
            return self.hinting(self.hint or more or None)
        return self.hinting(f"{self.hint}{'' if self.hint.endswith('?') else ';'} {more}")

    def _changed(self, **fields: object) -> Self:
        copy = self.__class__.__new__(self.__class__, *self.args)
        copy.__dict__.update(self.__dict__, **fields)
        return copy


def reason_of(error: Exception) -> str:
    """What has failed, in a few words: for an error of the kernel what it said, without number and path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
