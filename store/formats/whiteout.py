"""Whiteouts: the names in a layer that remove something from the layers below.

OCI image-spec, layer.md: `.wh.<name>` removes <name> from the layers below; `.wh..wh..opq` hides everything that the
layers below have in its directory. Other names starting with `.wh..wh.` have no meaning. A real file with a name that
starts with `.wh.` cannot be stored in a layer, because every reader would read it as a whiteout.
"""

from __future__ import annotations

from pybuild.store.errors import UnsafePath
from pybuild.store.formats.tar import show

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"


def removed_name(name: bytes) -> bytes | None:
    """The name that a layer entry removes, by the last component of its path; None for an ordinary entry.

    Raises UnsafePath for a whiteout of the directory itself or its parent, and for unknown markers.
    """
    if not name.startswith(PREFIX):
        return None
    target = name[len(PREFIX) :]
    if target in (b"", b".", b".."):
        raise UnsafePath(
            f"entry {show(name)}: a whiteout without a name to remove", hint="the layer is damaged or hostile"
        )
    if target.startswith(PREFIX):
        raise UnsafePath(f"entry {show(name)}: unknown whiteout marker")
    return target


def marker(path: bytes) -> bytes:
    """The path of the layer entry that removes `path`."""
    parent, slash, name = path.rpartition(b"/")
    return parent + slash + PREFIX + name


def refuse_reserved(path: bytes) -> None:
    """Raise UnsafePath if the name of a real file would be read as a whiteout."""
    if path.rpartition(b"/")[2].startswith(PREFIX):
        raise UnsafePath(
            f"entry {show(path)}: a name starting with .wh. cannot be stored in a layer",
            hint="in OCI layers such a name removes a file; rename the file",
        )
