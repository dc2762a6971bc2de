"""Writing annotations into indexes and descriptors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.annotations import Annotation, Level, annotations_at
from pybuild.store.objects.indexes import StoredIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.formats.oci_manifest import Index
    from pybuild.store.objects.indexes import Stored


def annotated(index: Index, annotations: Sequence[Annotation]) -> Index:
    """The index with its own annotations, and those of its entries."""
    if not annotations:
        return index
    entries = [
        replace(
            entry,
            annotations={
                **entry.annotations,
                **annotations_at(annotations, Level.MANIFEST_DESCRIPTOR, entry.platform),
            },
        )
        for entry in index.manifests
    ]
    of_index = {**index.annotations, **annotations_at(annotations, Level.INDEX)}
    return replace(index, manifests=tuple(entries), annotations=of_index)


def of_descriptor(stored: Stored, annotations: Sequence[Annotation]) -> dict[str, str]:
    """The annotations of the entry in the index.json of a layout, besides its names."""
    if isinstance(stored, StoredIndex):
        return annotations_at(annotations, Level.INDEX_DESCRIPTOR)
    return annotations_at(annotations, Level.MANIFEST_DESCRIPTOR, stored.exact_platform)
