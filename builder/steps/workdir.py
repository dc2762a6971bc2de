"""WORKDIR: the directories that it creates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind, parent_of
from pybuild.store.formats.whiteout import refuse_reserved

if TYPE_CHECKING:
    from pybuild.store.layers.view import View


def missing_directories(view: View, path: str, uid: int, gid: int, now: int) -> list[Entry]:
    """The entries for the missing directories of an absolute path (mode 0755, the given owner), and for their existing parents.

    Existing directories stay unchanged. Links are followed inside of the image. Raises LinkLoop; BuildError if a
    non-directory is in the way; UnsafePath for a name that no layer can hold.
    """
    target = view.resolve(path.encode("utf-8", "surrogateescape"))
    missing = []
    here = target
    while here and view.lookup(here) is None:
        refuse_reserved(here)
        missing.append(here)
        here = parent_of(here)
    existing = view.lookup(here)
    if existing is not None and existing.kind is not Kind.DIRECTORY:
        raise BuildError(f"WORKDIR {path}: {show(b'/' + here)} of the image is not a directory")
    if not missing:
        return []
    entries = [Entry(directory, Kind.DIRECTORY, 0o755, uid, gid, now) for directory in missing]
    while here:
        above = view.lookup(here)
        assert above is not None
        entries.append(above._replace(opaque=False))
        here = parent_of(here)
    return entries[::-1]
