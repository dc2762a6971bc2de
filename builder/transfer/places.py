"""What the user names as source and destination of a copy.

    docker://NAME                     an image of a registry
    store:NAME                        an image of the store; as a source also a digest
    oci-archive:FILE[:NAME]           an OCI archive
    docker-archive:FILE[:NAME]        an archive as of `docker save`
    oci:DIR[:NAME]                    an OCI layout directory

Except for `store:` these are the names of skopeo and podman. A name alone could be any of them, so it is refused.
"""

from __future__ import annotations

import os

from pybuild.builder.errors import UnclearPlace
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.reference import Reference
from pybuild.store.importing.archived import ArchiveKind, ArchivePlace, archive_place
from pybuild.values import frozen

_REGISTRY, _STORE = "docker://", "store:"
_KINDS = "docker://NAME, store:NAME, oci:DIR, oci-archive:FILE or docker-archive:FILE"


@frozen
class RegistryPlace:
    """An image of a registry."""

    reference: Reference

    def __str__(self) -> str:
        return f"{_REGISTRY}{self.reference.familiar}"


@frozen
class StorePlace:
    """An image of the store, by name or digest."""

    name: str

    def __str__(self) -> str:
        return f"{_STORE}{self.name}"


CopyPlace = RegistryPlace | StorePlace | ArchivePlace


def parse_place(text: str) -> CopyPlace:
    """Read one place. Raises UnclearPlace, InvalidImage."""
    if text.startswith(_REGISTRY):
        return RegistryPlace(Reference.parse(text.removeprefix(_REGISTRY)).with_default_tag())
    if text.startswith(_STORE):
        if not text.removeprefix(_STORE):
            raise UnclearPlace(f"{text}: the name of the image is missing")
        return StorePlace(text.removeprefix(_STORE))
    place = archive_place(text)
    if place is not None:
        if not place.path:
            raise UnclearPlace(f"{text}: the path is missing")
        return place
    raise UnclearPlace(f"{text}: it does not say where the image is", hint=_advice(text))


def _advice(text: str) -> str:
    if os.path.isdir(text):
        return f"write {ArchiveKind.OCI_LAYOUT.value}:{text} for the layout in this directory"
    if os.path.exists(text):
        kinds = (ArchiveKind.OCI_ARCHIVE, ArchiveKind.DOCKER_ARCHIVE)
        return f"write {' or '.join(f'{kind.value}:{text}' for kind in kinds)} for this file"
    try:
        Reference.parse(text)
    except InvalidImage:
        return f"a place is one of {_KINDS}"
    return f"write {_REGISTRY}{text} for a registry, {_STORE}{text} for the store"
