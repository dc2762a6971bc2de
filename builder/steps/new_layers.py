"""New layers: where a job writes one, and how it becomes part of the store.

A stage that is only copied from gets no layers that anybody will look at: what its RUN steps leave is kept as trees, and
what a COPY writes for it is not compressed. Should it become an image after all, its layers are made then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.jobs.job import Output
from pybuild.store.formats.compression import Compression
from pybuild.store.formats.digest import Digest
from pybuild.store.objects.changesets import LayerBlob

if TYPE_CHECKING:
    from pybuild.builder.jobs.job import Written
    from pybuild.builder.plan.graph import Plan
    from pybuild.store.store import Store


def of_image(plan: Plan) -> frozenset[int]:
    """The nodes whose layers the image has, or whose base it has."""
    found = set()
    node = plan.image.node
    while node is not None:
        found.add(node)
        node = plan.nodes[node].parent
    return frozenset(found)


class NewLayers:
    """For one build: `compression` is that of its layers, `epoch` the newest time that a file in one can have."""

    def __init__(self, store: Store, compression: Compression, epoch: int | None, of_image: frozenset[int]) -> None:
        self._store = store
        self._compression = compression
        self._epoch = epoch
        self._of_image = of_image

    def output(self, node: int) -> Output:
        """Where the layer of a node is written."""
        ingest = self._store.ingest
        compression = self._compression if node in self._of_image else Compression.UNCOMPRESSED
        return Output(ingest.new_path(), ingest.new_path(), compression.value, self._epoch)

    def output_of_tree(self, node: int) -> Output:
        """The same where there is a tree as well: without a tar, if the image does not have it."""
        output = self.output(node)
        return output if node in self._of_image else replace(output, blob="")

    def adopt(self, written: Written, output: Output) -> str:
        """Make a written layer part of the store; return its changeset."""
        blob = self._adopt_blob(written, output)
        changeset = self._store.changesets.adopt(output.toc)
        self._store.changesets.add_tar(changeset, output.clamp, blob)
        return changeset

    def add_tar(self, changeset: str, written: Written, output: Output) -> None:
        """Make the tar of a changeset, if one was written, part of the store."""
        if output.blob:
            self._store.changesets.add_tar(changeset, output.clamp, self._adopt_blob(written, output))

    def _adopt_blob(self, written: Written, output: Output) -> LayerBlob:
        blob = LayerBlob(
            Digest.parse(written.diff_id), Digest.parse(written.digest), written.size, Compression(output.compression)
        )
        self._store.blobs.adopt(output.blob, blob.digest, blob.size)
        return blob
