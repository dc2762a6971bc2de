"""What a build tells while it goes on. One callable takes them; `ignore` is the one that does nothing with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import StepFailed
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.parser import Source, Span


@frozen
class StepRef:
    """The step an event is about."""

    node: int
    stage: str  # its name, else its number
    number: int  # of the steps that make a layer in this stage, from 1
    total: int
    instruction: str  # as in the recipe, on one line


@frozen
class StepStarted:
    """A step was not in the cache and begins."""

    step: StepRef


@frozen
class StepOutput:
    """A running step wrote something. `stream` is 1 or 2."""

    step: StepRef
    stream: int
    data: bytes


@frozen
class StepFinished:
    """A step is done; `seconds` is 0 where the cache had it."""

    step: StepRef
    cached: bool
    seconds: float


@frozen
class StepBroke:
    """A step failed. Those that run beside it are ended too, and no event tells of their end."""

    step: StepRef
    seconds: float
    message: str
    status: int | None  # of a RUN, as a shell gives it


@frozen
class ShellOpened:
    """A shell takes the user's terminal, in what a step left that broke. Until it has ended no event comes."""

    step: StepRef


@frozen
class Transfer:
    """An image is being fetched: how many bytes of it are there, of how many."""

    name: str
    done: int
    total: int


@frozen
class Note:
    """Something worth a line, once a build."""

    text: str


@frozen
class CheckWarning:
    """A rule found something in the recipe: allowed, and unwise. `rule` is the name by which it can be skipped."""

    rule: str
    text: str
    source: Source
    span: Span


@frozen
class BuiltLayer:
    """A layer of an image that was built. Those of the base have no instruction."""

    digest: str
    size: int  # bytes of the blob
    instruction: str


@frozen
class Built:
    """The image is whole and in the store; `layers` are all of it, lowest first."""

    manifest: str
    layers: tuple[BuiltLayer, ...]


@frozen
class Exported:
    """An output was written."""

    destination: str
    manifest: str
    size: int  # bytes


@frozen
class Tick:
    """Nothing has happened for a moment; steps are running. For displays that show how time goes by."""


Event = (
    StepStarted | StepOutput | StepFinished | StepBroke | ShellOpened | Transfer | Note | CheckWarning | Built | Exported
    | Tick
)  # fmt: skip


def step_broke(step: StepRef, seconds: float, error: Exception) -> StepBroke:
    """The event of a step that raised an error."""
    return StepBroke(step, seconds, str(error), error.status if isinstance(error, StepFailed) else None)


def ignore(event: Event) -> None:
    """Take an event and do nothing."""
