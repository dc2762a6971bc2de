"""The plan while it grows: the nodes of each stage, and those of images and contexts, which several stages can read."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from pybuild.builder.plan.expansion_limit import Budget
from pybuild.builder.plan.graph import FILES_PATH, BaseStep, CopyStep, Node, literal_pattern
from pybuild.builder.plan.platforms import platform_of
from pybuild.builder.plan.resolve import ContextFiles
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import PlannedStage, Step
    from pybuild.builder.plan.resolve import Resolved, ResolvedStage
    from pybuild.parser import Flag, Span
    from pybuild.store.formats.digest import Digest
    from pybuild.store.formats.platform import Platform


class PlanDraft:
    """All nodes and stages that have been planned so far."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.stages: dict[int, PlannedStage] = {}
        self.budget = Budget()
        self.images: dict[
            Digest, int
        ] = {}  # digest of a manifest -> the node of this image, for COPY --from and mounts
        self.contexts: dict[tuple[str, str], int] = {}  # name of a context and a path in it -> the node of these files


@frozen
class NodePath:
    """A path in the root filesystem of a node. Without a node (None) the root filesystem is empty."""

    node: int | None
    path: str


class StageNodes:
    """Adds the nodes of one stage to the draft, and finds the nodes that its instructions read."""

    def __init__(
        self, draft: PlanDraft, resolved: Resolved, stage: ResolvedStage, options: BuildOptions, *, fresh: bool
    ) -> None:
        self._draft = draft
        self._main_context = resolved.context
        self._stage = stage
        self._options = options
        self._name = stage.stage.name or f"stage-{stage.stage.index}"
        self._fresh = fresh

    def add(
        self, step: Step, parent: int | None, sources: tuple[int | None, ...], span: Span, text: str, platform: Platform,
        number: int = 0, flags: tuple[Flag, ...] = (),
    ) -> int:  # fmt: skip
        """Add a node. Returns its id."""
        nodes = self._draft.nodes
        id = len(nodes)
        nodes.append(
            Node(id, step, parent, sources, self._name, number, span, text, platform, self._fresh, flags=flags)
        )
        return id

    def source(self, name: str, span: Span) -> int | None:
        """The node that a --from reads: the last one of a stage, or that of an image or a context. None if it is empty."""
        source = self._stage.sources[name]
        if isinstance(source, int):
            return self._draft.stages[source].node
        if isinstance(source, ContextFiles):
            return self.context_root(source, span)
        if source.snapshot is None:
            return None
        known = self._draft.images.get(source.manifest_digest)
        if known is None:
            platform = platform_of(source, self._options.platform)
            known = self.add(BaseStep(source), None, (), span, f"FROM {name}", platform)
            self._draft.images[source.manifest_digest] = known
        return known

    def is_windows(self, node: int | None) -> bool:
        """Whether the layers of a node are those of a Windows, which have the files in a directory."""
        return node is not None and self._draft.nodes[node].platform.os == "windows"

    def context(self, name: str | None) -> ContextFiles | None:
        """The context that COPY --from names, or the main one if `name` is None; None if it names a stage or an image."""
        source = self._main_context if name is None else self._stage.sources[name]
        return source if isinstance(source, ContextFiles) else None

    def context_root(self, files: ContextFiles, span: Span, path: str = ".") -> int:
        """The node whose root filesystem holds the files of a context: all of them, or those at `path`."""
        known = self._draft.contexts.get((files.name, path))
        if known is None:
            dest = "/" if path == "." else FILES_PATH
            sources = (literal_pattern(path),)
            step = CopyStep(sources, dest, None, None, False, context=files.name, identity=files.identity)
            text = f"FROM {files.name or 'the context'}" + (f" {path}" if path != "." else "")
            # Files have no platform: builds for several of them share this node.
            known = self.add(step, None, (), span, text, self._options.build_platform)
            self._draft.contexts[(files.name, path)] = known
        return known

    def context_path(self, files: ContextFiles, path: str, span: Span) -> NodePath:
        """The node and path from which the files at a path of a context can be mounted."""
        clean = posixpath.normpath("/" + path).lstrip("/")
        if not clean:
            return NodePath(self.context_root(files, span), "/")
        return NodePath(self.context_root(files, span, clean), FILES_PATH)
