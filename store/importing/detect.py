"""Detecting whether an archive is an OCI layout, a docker archive, or the tar of a root filesystem.

The names of the members decide. Names in layouts and docker archives have a few forms. An archive is a root filesystem
if a name of any other form comes before oci-layout, index.json and manifest.json.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from pybuild.store.formats.docker_archive import MANIFEST
from pybuild.store.formats.oci_layout import INDEX, LAYOUT
from pybuild.store.formats.tar import TarReader

if TYPE_CHECKING:
    from pybuild.store.system.streams import Readable

_IMAGE_MEMBER = re.compile(
    rb"(?:blobs(?:/.*)?|repositories|VERSION"
    rb"|(?:sha256:)?[0-9a-f]{64}(?:\.json|\.tar(?:\.gz)?|/(?:VERSION|json|layer\.tar)?)?"
    rb"|[^/]+\.(?:tar|tar\.gz|tgz|json))?",
    re.DOTALL,
)


class ArchiveForm(Enum):
    """The form of an archive."""

    LAYOUT = "OCI layout"
    DOCKER = "docker archive"
    ROOTFS = "root filesystem"


def detect_form(tar: Readable) -> ArchiveForm:
    """Read names until the form is certain. Raises InvalidImage if the stream is not a tar."""
    seen: set[bytes] = set()
    archive = False
    for member in TarReader(tar):
        name = member.name.removeprefix(b"./").rstrip(b"/")
        if name == LAYOUT:
            return ArchiveForm.LAYOUT
        if name in (INDEX, MANIFEST):
            seen.add(name)
        elif not seen and not _IMAGE_MEMBER.fullmatch(name):
            return ArchiveForm.ROOTFS
        archive = archive or bool(name)
    if INDEX in seen:
        return ArchiveForm.LAYOUT
    return ArchiveForm.DOCKER if archive else ArchiveForm.ROOTFS
