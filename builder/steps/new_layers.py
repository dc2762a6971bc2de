"""New layers: where a job writes one, and how it becomes part of the store.

The layers of a stage that is only copied from are never part of an image. So its RUN steps leave trees only, and its
COPY steps write uncompressed layers. If such a stage becomes an image after all (--target), its layers are made then. A
cache that gets all layers (--cache-to with mode=max) counts like an image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.cache_places import CacheMode
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from pybuild.builder.jobs.job import Output, Written
    from pybuild.builder.options import BuildOptions
    from pybuild.builder.plan.graph import Plan, PlannedStage
    from pybuild.builder.session import Session


def nodes_with_layers(plan: Plan, options: BuildOptions) -> frozenset[int]:
    """The nodes whose layers somebody wants: the image, or a cache that gets the layers of all steps."""
    if any(export.mode is CacheMode.MAX for export in options.cache_to):
        return frozenset(range(len(plan.nodes)))
    return nodes_of_image(plan)


def nodes_of_image(plan: Plan) -> frozenset[int]:
    """The nodes whose layers the images get: the last node of each and all nodes below it."""
    found = set()
    for image in plan.images:
        node = image.node
        while node is not None:
            found.add(node)
            node = plan.nodes[node].parent
    return frozenset(found)


def nodes_below(plan: Plan, image: PlannedStage) -> frozenset[int]:
    """All nodes that an image is made from: those of its layers, and those that these read."""
    found: set[int] = set()
    pending = [image.node]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending += [plan.nodes[node].parent, *plan.nodes[node].sources]
    return frozenset(found)


class NewLayers:
    """The layers that one build makes."""

    def __init__(self, session: Session, compression: Compression, wanted: frozenset[int]) -> None:
        """`wanted` are the nodes whose layers get this compression, and are written even if a tree would do."""
        self._store = session.store
        self._clamp = session.options.clamp
        self._compression = compression
        self._wanted = wanted

    def output(self, node: int) -> Output:
        """Where a job writes the layer of a node."""
        from pybuild.builder.jobs.job import Output  # a local import: a cached build makes no layer

        ingest = self._store.ingest
        compression = self._compression if node in self._wanted else Compression.UNCOMPRESSED
        return Output(ingest.new_path(), ingest.new_path(), compression.value, self._clamp)

    def output_beside_tree(self, node: int) -> Output:
        """The same for a node that also leaves a tree. There is no blob if the image does not need the layer."""
        output = self.output(node)
        return output if node in self._wanted else replace(output, blob="")

    def adopt(self, written: Written, output: Output) -> str:
        """Make a written layer part of the store; return its changeset."""
        with self._store.metadata.transaction():
            changeset = self._store.changesets.adopt(output.toc)
            self.add_tar(changeset, written, output)
        return changeset

    def add_tar(self, changeset: str, written: Written, output: Output) -> None:
        """Make the tar of a changeset part of the store, if the job wrote one."""
        if not output.blob:
            return
        with self._store.metadata.transaction():
            self._store.changesets.add_tar(changeset, output.clamp, self._adopt_blob(written, output))

    def _adopt_blob(self, written: Written, output: Output) -> LayerBlob:
        blob = LayerBlob(
            Digest.parse(written.diff_id), Digest.parse(written.digest), written.size, Compression(output.compression)
        )
        self._store.blobs.adopt(output.blob, blob.digest, blob.size)
        return blob
