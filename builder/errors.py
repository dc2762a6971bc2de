"""What the builder raises: decisions that cannot be taken, and steps that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.misses import ExplainedMiss
    from pybuild.values.source import Span


class BuildError(PybuildError):
    """A build that cannot go on. Of one that is `reported`, an event has told already."""

    reported = False

    def as_reported(self) -> Self:
        """The same error, once an event has told of it."""
        return self._changed(reported=True)


class PlanError(BuildError):
    """The recipe asks for something that cannot be: found before anything runs."""


class StepFailed(BuildError):
    """A RUN ended with a status other than 0. `status` is as a shell gives it: 128 + n for signal n."""

    def __init__(self, message: str, status: int, *, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message, span=span, hint=hint)
        self.status = status


class NotCached(BuildError):
    """Something would have to be made, or fetched, in a build that must not: `steps` tell what and why."""

    def __init__(self, message: str, steps: Sequence[ExplainedMiss] = ()) -> None:
        super().__init__(message)
        self.steps = tuple(steps)


class CopyError(BuildError):
    """A COPY whose sources or destination do not fit."""


class SandboxError(BuildError):
    """The sandbox of a step cannot be set up."""


class PrivilegeError(BuildError):
    """This machine or user does not allow what the step needs."""
