"""Steps that begin on what another one has left, before that is a layer.

To write the layer of a RUN takes longer than most commands: its files are read, hashed and compressed. The RUN that stands
on it needs none of that but the tree, and the names in it. So its command runs meanwhile. Its own layer waits: to tell what
has changed the content of what lies below must be known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.workers.tasks import Task


@frozen
class Ahead:
    """A step that has run, and whose layer is being written."""

    changeset: str  # with a tree, and a table of contents that lacks digests
    below: int | None  # the snapshot that it ran on
    # Waits for the layer; gives the snapshot that the step has come to, perhaps another build's.
    written: Callable[[], Task[int | None]]


Parent: TypeAlias = "int | Ahead | None"  # what a step stands on: a snapshot, or what will be one; None: nothing
Listed: TypeAlias = Callable[[str], None]  # told a changeset as soon as others may begin on it
