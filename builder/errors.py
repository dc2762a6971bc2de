"""What the builder raises: decisions that cannot be taken, and steps that fail.

`span` says where in the recipe `source`, `hint` is one line of advice; all may be None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.builder.why import Explained
    from pybuild.parser import Source, Span


class BuildError(Exception):
    """A build that cannot go on."""

    def __init__(self, message: str, *, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.span = span
        self.hint = hint
        self.source: Source | None = None
        self.told = False  # whether an event has told of it


class PlanError(BuildError):
    """The recipe asks for something that cannot be: found before anything runs."""


class StepFailed(BuildError):
    """A RUN ended with a status other than 0. `status` is as a shell gives it: 128 + n for signal n."""

    def __init__(self, message: str, status: int, *, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message, span=span, hint=hint)
        self.status = status


class NotCached(BuildError):
    """Something would have to be made, or fetched, in a build that must not: `steps` tell what and why."""

    steps: tuple[Explained, ...] = ()


class CopyError(BuildError):
    """A COPY whose sources or destination do not fit."""


class SandboxError(BuildError):
    """The sandbox of a step cannot be set up."""


class PrivilegeError(BuildError):
    """This machine or user does not allow what the step needs."""
