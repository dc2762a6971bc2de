"""Whiteouts, in both directions between a layer's names and what they mean.

OCI image-spec, layer.md: `.wh.<name>` removes <name> from the layers below, `.wh..wh..opq` hides all that the
layers below have in its directory. Other names starting with `.wh.` mean nothing; a real file of such a name cannot
be stored in a layer, because every reader would take it for a removal.
"""

from __future__ import annotations

from pybuild.store.errors import UnsafePath
from pybuild.store.formats.tar import show

PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"


def removed_name(name: bytes) -> bytes | None:
    """What a layer entry with this last component removes; None where it is an ordinary entry.

    Raises UnsafePath for markers that would remove the directory itself or its parent.
    """
    if not name.startswith(PREFIX):
        return None
    target = name[len(PREFIX) :]
    if target in (b"", b".", b".."):
        raise UnsafePath(f"entry {show(name)}: a whiteout of nothing", hint="the layer is damaged or hostile")
    if target.startswith(PREFIX):
        raise UnsafePath(f"entry {show(name)}: unknown whiteout marker")
    return target


def marker(path: bytes) -> bytes:
    """The name of the layer entry that removes `path`."""
    parent, slash, name = path.rpartition(b"/")
    return parent + slash + PREFIX + name


def refuse_reserved(path: bytes) -> None:
    """Raise UnsafePath where a real file's name would be read as a whiteout."""
    if path.rpartition(b"/")[2].startswith(PREFIX):
        raise UnsafePath(
            f"entry {show(path)}: a name starting with .wh. cannot be stored in a layer",
            hint="the OCI format reads such names as removals; rename the file",
        )
