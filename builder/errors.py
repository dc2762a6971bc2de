"""The errors of builder/: recipes that cannot be built, and steps that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pybuild.values.errors import PybuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.misses import ExplainedMiss
    from pybuild.values.source import Span


class BuildError(PybuildError):
    """A build cannot go on. `reported` is set on an error that an event has already shown to the user."""

    reported = False

    def as_reported(self) -> Self:
        """The same error, marked as shown by an event."""
        return self._changed(reported=True)


class PlanError(BuildError):
    """The recipe asks for something impossible. Raised before any step runs."""


class StepFailed(BuildError):
    """A RUN ended with a status other than 0. `status` is the one that a shell reports: 128 + n for signal n."""

    def __init__(self, message: str, status: int, *, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message, span=span, hint=hint)
        self.status = status


class LayerUnavailable(BuildError):
    """A layer that is not in the store cannot be fetched, or is not what its image says. `digest` is that of its blob.

    It is `lost` if no known place has it or its bytes are wrong: asking again later would not help.
    """

    def __init__(
        self,
        message: str,
        digest: str = "",
        *,
        lost: bool = False,
        span: Span | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, span=span, hint=hint)
        self.digest = digest
        self.lost = lost


class ClaimedTableWrong(BuildError):
    """A layer is not what a cache says it holds, and steps were made by that. They have been forgotten."""


class NotCached(BuildError):
    """A build that may only use the cache would have to make or fetch something. `steps` are the explained misses."""

    def __init__(self, message: str, steps: Sequence[ExplainedMiss] = ()) -> None:
        super().__init__(message)
        self.steps = tuple(steps)


class CopyError(BuildError):
    """A COPY cannot copy its sources to its destination."""


class UnclearPlace(BuildError):
    """A text does not say which kind of place it names as the source or destination of a copy."""


class SandboxError(BuildError):
    """pybuild cannot set up the sandbox of a step."""


class PrivilegeError(BuildError):
    """This machine does not allow something that a step needs, or not for this user."""
