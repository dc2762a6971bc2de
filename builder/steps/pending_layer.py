"""A RUN step whose command has ended and whose layer is still being written.

To write the layer of a RUN takes longer than most commands: its files are read, hashed and compressed. The next RUN needs
none of that: it needs the tree and the names of the files in it. So its command runs in the meantime. Its own layer has to
wait, because finding out what changed takes the content digests of the layer below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.workers.tasks import Task


@frozen
class PendingLayer:
    """The result of such a step, as far as it is known."""

    changeset: str  # has a tree; its table of contents lacks digests
    below: int | None  # the snapshot that the step ran on
    # Waits for the layer and returns the step's snapshot. Another build may have recorded this step first: then the
    # snapshot is of that build.
    written: Callable[[], Task[int | None]]


Parent: TypeAlias = "int | PendingLayer | None"  # what a step stands on: a snapshot, one to come, or nothing
OnListed: TypeAlias = Callable[[str], None]  # called with a changeset as soon as the next step can begin on it
