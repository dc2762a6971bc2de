"""The root filesystem that layers make, in the form in which the recorded results have it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from typing import TYPE_CHECKING

from tests.support.archive import clean

if TYPE_CHECKING:
    from tests.support.archive import ReadImage

SOURCE_TIME = 1_700_000_000  # of every file of the base and of the contexts
# type, mode, uid, gid, content or target, xattrs, mtime
Facts = list[object]

_KINDS = {
    tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "sym", tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file",
    tarfile.CHRTYPE: "chr", tarfile.BLKTYPE: "blk", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip


def short(data: bytes) -> str:
    """A content's digest, as long as the recorded ones."""
    return hashlib.sha256(data).hexdigest()[:16]


def flatten(image: ReadImage, known: dict[str, str]) -> dict[str, Facts]:
    """Apply the layers, lowest first. `known` has names for contents that differ from machine to machine."""
    tree: dict[str, Facts] = {}
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for member in tar:
                _apply(tree, tar, member, known)
    return tree


def _apply(tree: dict[str, Facts], tar: tarfile.TarFile, member: tarfile.TarInfo, known: dict[str, str]) -> None:
    path = clean(member.name)
    if not path:
        return
    parent, name = os.path.split(path)
    if name == ".wh..wh..opq":
        _drop_below(tree, parent)
    elif name.startswith(".wh."):
        removed = os.path.join(parent, name.removeprefix(".wh."))
        _drop_below(tree, removed)
        tree.pop(removed, None)
    elif member.islnk():
        tree[path] = tree[clean(member.linkname)]
    else:
        if not member.isdir():
            _drop_below(tree, path)
        tree[path] = _facts(tar, member, known)


def _drop_below(tree: dict[str, Facts], path: str) -> None:
    for below in [name for name in tree if name.startswith(path + "/")]:
        del tree[below]


def _facts(tar: tarfile.TarFile, member: tarfile.TarInfo, known: dict[str, str]) -> Facts:
    kind = _KINDS[member.type]
    held = ""
    if member.isfile():
        file = tar.extractfile(member)
        assert file is not None
        held = short(file.read())
        held = known.get(held, held)
    elif member.issym():
        held = member.linkname
    elif kind in ("chr", "blk"):
        held = f"{member.devmajor},{member.devminor}"
    prefix = "SCHILY.xattr."
    xattrs = sorted(
        [key.removeprefix(prefix), value] for key, value in member.pax_headers.items() if key.startswith(prefix)
    )
    mode = "-" if kind == "sym" else oct(member.mode & 0o7777)
    return [kind, mode, member.uid, member.gid, held, xattrs, "-" if kind == "dir" else _when(int(member.mtime))]


def _when(mtime: int) -> object:
    """Whether a time is that of the sources, that of the build, or an old one of its own."""
    if mtime < SOURCE_TIME:
        return mtime
    return "source" if mtime < SOURCE_TIME + 100_000 else "new"
