"""A cache in a directory: an OCI layout to which other users might be able to write.

Every file is opened below the directory without following links, and read only if it is a regular file.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.store.errors import NotACache, NotFound
from pybuild.store.formats.bounded_json import Fields, load_object
from pybuild.store.formats.oci_layout import INDEX, LAYOUT, NAME_ANNOTATION, REF_ANNOTATION
from pybuild.store.formats.oci_manifest import Index
from pybuild.store.importing.members import DirectoryMembers, read_member
from pybuild.values.limits import MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.builder.cache_places import LocalCache
    from pybuild.store.formats.oci_manifest import Descriptor
    from pybuild.store.importing.members import Members


@contextmanager
def open_layout(place: LocalCache) -> Iterator[DirectoryMembers | None]:
    """The files of a layout; None if the directory is empty or does not exist. Raises NotACache, StoreError, OSError."""
    try:
        if not stat.S_ISDIR(os.stat(place.path).st_mode):
            raise NotACache("it is not a directory")
        members = DirectoryMembers(place.path)
    except FileNotFoundError:
        yield None
        return
    with members:
        if LAYOUT in members:
            fields = Fields(
                load_object(read_member(members, LAYOUT, MANIFEST_BYTES), "oci-layout", limit=MANIFEST_BYTES),
                "oci-layout",
            )
            if fields.text("imageLayoutVersion").partition(".")[0] != "1":
                raise fields.wrong("imageLayoutVersion", "1.0.0")
            yield members
            return
    if os.listdir(place.path):
        raise NotACache("it is a directory with something else than an OCI layout")
    yield None


def tagged_manifest(members: Members, place: LocalCache) -> Descriptor | None:
    """The entry with the tag of the place, or a single one without a name. None: there is none. Raises StoreError."""
    try:
        index = Index.from_bytes(read_member(members, INDEX, MANIFEST_BYTES))
    except NotFound:
        return None  # a layout that is being made
    tagged = [entry for entry in index.manifests if entry.annotations.get(REF_ANNOTATION) == place.tag]
    tagged.sort(key=lambda entry: NAME_ANNOTATION in entry.annotations)  # a cache has no full name
    if tagged:
        return tagged[0]
    alone = index.manifests[0] if len(index.manifests) == 1 else None
    return alone if alone is not None and not {NAME_ANNOTATION, REF_ANNOTATION} & set(alone.annotations) else None
