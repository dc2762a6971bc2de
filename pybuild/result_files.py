"""The results of a build as files for scripts: --iidfile and --metadata-file, as docker buildx writes them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild import report
from pybuild.builder.errors import BuildError
from pybuild.store.exporting.publish import open_descriptor, replacing
from pybuild.store.formats.oci_manifest import Descriptor
from pybuild.store.objects.indexes import StoredIndex, digest_of, images_of
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.progress.formatting import BuildInfo
    from pybuild.store.formats.reference import Reference
    from pybuild.store.objects.indexes import Stored
    from pybuild.store.store import Store


@frozen
class ResultFiles:
    """The paths of the files; None if there is no such file."""

    iidfile: str | None
    metadata: str | None

    def prepare(self) -> None:
        """Remove the files of an earlier build, so that no script reads them as this one's.

        Raises BuildError if a file cannot be written.
        """
        for path in (self.iidfile, self.metadata):
            if path is None:
                continue
            parent = os.path.dirname(os.path.abspath(path))
            if not os.path.isdir(parent):
                raise BuildError(f"cannot write {path}: {parent} is not a directory")
            if os.path.isdir(path):
                raise BuildError(f"cannot write {path}: it is a directory")
            if open_descriptor(path) is None and os.path.isfile(path):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.realpath(path))

    def finished(self, build: BuildInfo, store: Store, stored: Stored, tags: Sequence[Reference]) -> None:
        """Write the files of a build that succeeded. An image ID is that of the config, or of the index of several images.

        Raises OSError, StoreError.
        """
        digest = digest_of(stored)
        several = isinstance(stored, StoredIndex)
        kind = stored.index.media_type if isinstance(stored, StoredIndex) else stored.manifest.media_type
        if self.iidfile is not None:
            _write(self.iidfile, str(digest if several else images_of(stored)[0].manifest.config.digest))
        if self.metadata is not None:
            fields: dict[str, object] = {
                "containerimage.descriptor": Descriptor(kind, digest, store.blobs.size(digest) or 0).to_json(),
                "containerimage.digest": str(digest),
                "pybuild.build": build.id,
            }
            if several:
                fields["pybuild.platforms"] = {
                    str(image.exact_platform): {
                        "containerimage.config.digest": str(image.manifest.config.digest),
                        "containerimage.digest": str(image.manifest_digest),
                    }
                    for image in images_of(stored)
                }
            else:
                fields["containerimage.config.digest"] = str(images_of(stored)[0].manifest.config.digest)
            if tags:
                fields["image.name"] = ",".join(map(str, tags))
            _write(self.metadata, json.dumps(fields, indent=2, sort_keys=True) + "\n")

    def failed(self, build: BuildInfo, error: Exception) -> None:
        """Write the error, its place in the recipe and the status of the RUN."""
        if self.metadata is not None:
            fields = {"pybuild.build": build.id, "pybuild.error": report.json_fields(error)}
            _write(self.metadata, json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _write(path: str, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
