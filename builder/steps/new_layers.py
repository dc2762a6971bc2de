"""New layers: where a job writes one, and how it becomes part of the store.

The layers of a stage that is only copied from are never part of an image. So its RUN steps leave trees only, and its
COPY steps write uncompressed layers. If such a stage becomes an image after all (--target), its layers are made then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from pybuild.builder.jobs.job import Output, Written
    from pybuild.builder.plan.graph import Plan
    from pybuild.builder.session import Session


def nodes_of_image(plan: Plan) -> frozenset[int]:
    """The nodes whose layers the image gets: its last node and all nodes below it."""
    found = set()
    node = plan.image.node
    while node is not None:
        found.add(node)
        node = plan.nodes[node].parent
    return frozenset(found)


class NewLayers:
    """The layers that one build makes."""

    def __init__(self, session: Session, compression: Compression, nodes_of_image: frozenset[int]) -> None:
        """`compression` is used for the layers of the image only."""
        self._store = session.store
        self._clamp = session.options.epoch  # the newest time that a file in a layer can have
        self._compression = compression
        self._nodes_of_image = nodes_of_image

    def output(self, node: int) -> Output:
        """Where a job writes the layer of a node."""
        from pybuild.builder.jobs.job import Output  # a local import: a cached build makes no layer

        ingest = self._store.ingest
        compression = self._compression if node in self._nodes_of_image else Compression.UNCOMPRESSED
        return Output(ingest.new_path(), ingest.new_path(), compression.value, self._clamp)

    def output_beside_tree(self, node: int) -> Output:
        """The same for a node that also leaves a tree. There is no blob if the image does not need the layer."""
        output = self.output(node)
        return output if node in self._nodes_of_image else replace(output, blob="")

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
