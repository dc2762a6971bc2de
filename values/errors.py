"""The root of everything that pybuild raises on purpose, and how an error gets its place in a recipe.

    PybuildError
      ParseError      parser/errors.py     the text of a recipe cannot be read
      StoreError      store/errors.py      the bytes on disk, or on their way there: NotFound, InvalidImage, NoSpace, ...
      RemoteError     remote/errors.py     another machine: Unreachable, TooSlow, Unauthorized, GitFailed, ConfigError
      BuildError      builder/errors.py    a decision cannot be taken, or a step fails: PlanError, StepFailed, ...

An error does not change once it is made. Whoever knows more than the code that raised it, raises a copy that knows more:

    except PybuildError as error:
        raise error.at(node.span) from error
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pybuild.values.source import Source, Span


class PybuildError(Exception):
    """Something that a user, or the machine, can do something about.

    `hint` is one line of advice, `span` the place in the recipe `source`; each may be None.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, span: Span | None = None, source: Source | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.span = span
        self.source = source

    def at(self, span: Span | None = None, *, source: Source | None = None) -> Self:
        """The same error with a place in a recipe. A place that it has already stays: it is the more exact one."""
        return self._changed(span=self.span or span, source=self.source or source)

    def hinting(self, hint: str | None) -> Self:
        """The same error with another hint."""
        return self._changed(hint=hint)

    def _changed(self, **fields: object) -> Self:
        twin = self.__class__.__new__(self.__class__, *self.args)
        twin.__dict__.update(self.__dict__, **fields)
        return twin
