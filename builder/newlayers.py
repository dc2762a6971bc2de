"""New layers: where a job writes one, and how it becomes part of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.workers.job import Output
from store.changeset import LayerBlob
from store.compression import Compression
from store.digest import Digest

if TYPE_CHECKING:
    from builder.workers.job import Written
    from store.store import Store


class NewLayers:
    """For one build: `compression` is that of its layers, `epoch` the newest time that a file in one can have."""

    def __init__(self, store: Store, compression: Compression, epoch: int | None) -> None:
        self._store = store
        self._compression = compression
        self._epoch = epoch

    def output(self) -> Output:
        """Where the next layer is written."""
        ingest = self._store.ingest
        return Output(ingest.new_path(), ingest.new_path(), self._compression.value, self._epoch)

    def adopt(self, written: Written, output: Output) -> str:
        """Make a written layer part of the store; return its changeset."""
        blob = LayerBlob(
            Digest.parse(written.diff_id), Digest.parse(written.digest), written.size, Compression(output.compression)
        )
        self._store.blobs.adopt(output.blob, blob.digest, blob.size)
        changeset = self._store.changesets.adopt(output.toc)
        self._store.changesets.add_tar(changeset, output.clamp, blob)
        return changeset
