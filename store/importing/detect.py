"""Detecting whether an archive is an OCI layout, a docker archive, or the tar of a root filesystem.

An archive of images has a top-level oci-layout, or a top-level index.json or manifest.json with the content of one. Such
an archive can have other members too: a README, macOS's `._` files, layers in directories of any name. A root filesystem
can have files called index.json and manifest.json, so their content counts as well. A member in a directory that every
root filesystem has ends the search early.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.bounded_json import load_list, load_object
from pybuild.store.formats.docker_archive import MANIFEST
from pybuild.store.formats.oci_layout import INDEX, LAYOUT
from pybuild.store.formats.tar import REGULAR, SparseMember, TarReader
from pybuild.values.limits import MANIFEST_BYTES
from pybuild.values.pattern import pattern

if TYPE_CHECKING:
    from pybuild.store.system.streams import Readable

_IMAGE_MEMBER = pattern(
    rb"(?:blobs(?:/.*)?|repositories|VERSION"
    rb"|(?:sha256:)?[0-9a-f]{64}(?:\.json|\.tar(?:\.gz)?|/(?:VERSION|json|layer\.tar)?)?"
    rb"|[^/]+\.(?:tar|tar\.gz|tgz|json))?",
    re.DOTALL,
)
_ROOT_DIRECTORIES = frozenset(
    b"bin boot dev etc home lib lib32 lib64 media mnt opt proc root run sbin srv sys tmp usr var".split()
)


class ArchiveForm(Enum):
    """The form of an archive."""

    LAYOUT = "OCI layout"
    DOCKER = "docker archive"
    ROOTFS = "root filesystem"


def detect_form(tar: Readable) -> ArchiveForm:
    """Read names until the form is certain. Raises InvalidImage if the stream is not a tar."""
    try:
        return _form_of(tar)
    except SparseMember:  # neither a layout nor docker writes such files
        return ArchiveForm.ROOTFS


def _form_of(tar: Readable) -> ArchiveForm:
    found: ArchiveForm | None = None
    empty, only_image_members = True, True
    reader = TarReader(tar)
    for member in reader:
        name = member.name.removeprefix(b"./").rstrip(b"/")
        if name == LAYOUT:
            return ArchiveForm.LAYOUT
        if name in (INDEX, MANIFEST) and member.type == REGULAR and member.size <= MANIFEST_BYTES.value:
            data = b"".join(reader.data())
            if name == INDEX and _is_index(data):
                found = ArchiveForm.LAYOUT
            if name == MANIFEST and _is_manifest(data):
                found = found or ArchiveForm.DOCKER
        elif found is None and name.partition(b"/")[0] in _ROOT_DIRECTORIES:
            return ArchiveForm.ROOTFS
        empty = empty and not name
        only_image_members = only_image_members and _IMAGE_MEMBER.fullmatch(name) is not None
    if found is not None:
        return found
    # An archive of images whose manifest.json is missing or damaged: the error should say that.
    return ArchiveForm.DOCKER if only_image_members and not empty else ArchiveForm.ROOTFS


def _is_index(data: bytes) -> bool:
    """Whether these bytes are the index.json of a layout, even one that is not valid in every field."""
    try:
        return "manifests" in load_object(data, "index.json", limit=MANIFEST_BYTES)
    except InvalidImage:
        return False


def _is_manifest(data: bytes) -> bool:
    """Whether these bytes are the manifest.json of a docker archive, even one that is not valid in every field."""
    try:
        return any("Layers" in item.data for item in load_list(data, "manifest.json", limit=MANIFEST_BYTES))
    except InvalidImage:
        return False
