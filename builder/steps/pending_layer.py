"""A RUN step whose command has ended and whose layer is still being written.

Writing the layer of a RUN takes longer than most commands: a worker reads, hashes and compresses its files. The next
RUN needs only the tree and the names of the files in it, so its command runs in the meantime. Its own layer must wait:
finding out what changed takes the content digests of the layer below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.workers.tasks import Task


@frozen
class PendingLayer:
    """The result of a RUN whose layer is still being written."""

    changeset: str  # has a tree; its table of contents lacks digests
    below: int | None  # the snapshot that the step ran on
    # Waits for the layer and returns the step's snapshot. If another build has recorded this step
    # first, that is the snapshot of the other build.
    written: Callable[[], Task[int | None]]


Parent: TypeAlias = "int | PendingLayer | None"  # what a step stands on: a snapshot, a pending layer, or nothing
OnListed: TypeAlias = Callable[[str], None]  # called with a changeset as soon as the next step can begin on it
