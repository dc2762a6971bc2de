"""The root filesystem of a RUN: what it is made of, and the two ways to make it and to find what the command changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.events import StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.plan.graph import FilesMount, Node
    from pybuild.builder.sandbox.mounts import BoundFiles, CopiedFiles
    from pybuild.builder.steps.mount_points import Scaffold
    from pybuild.builder.steps.pending_layer import OnListed


@frozen
class StepRoot:
    """A root filesystem that is ready for a command; the first three fields as in SandboxSpec."""

    lowers: tuple[str, ...]
    upper: str
    work: str
    layers: tuple[LayerPlace, ...]  # the layers below the step, the topmost first
    scaffold_toc: str


@frozen
class SourceFiles:
    """A file or directory of layers, the topmost first; no part of its path is a link."""

    layers: tuple[LayerPlace, ...]
    path: str
    is_directory: bool


class StepRoots(Protocol):
    """A way to make root filesystems of steps: overlay_roots.py, copied_roots.py."""

    async def prepare(self, layers: tuple[LayerPlace, ...], scaffold: Scaffold, directory: str) -> StepRoot:
        """Make the root of a step on these layers, in the step's own `directory`. Raises BuildError, StoreError."""
        ...

    async def commit(self, node: Node, root: StepRoot, ref: StepRef, on_listed: OnListed | None) -> str | None:
        """Turn what the command of a step has changed into a changeset. Raises BuildError, StoreError.

        `on_listed` can be called with the changeset, as soon as the next step can begin on it. None: the step must run again.
        """
        ...

    async def bind(self, mount: FilesMount, files: SourceFiles, directory: str) -> BoundFiles | CopiedFiles:
        """What the step mounts to see these files; changes to them are lost. `directory` is an unused path.

        Raises BuildError, StoreError.
        """
        ...
