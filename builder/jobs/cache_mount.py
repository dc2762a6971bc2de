"""The jobs for cache mounts that travel: a directory becomes a layer, and a layer a directory."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import ClassVar

from pybuild.builder.files.layer_contents import BlobPlace
from pybuild.builder.jobs.job import Output, write_files
from pybuild.builder.jobs.layer import new_tree
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Kind, Toc
from pybuild.store.layers.changes import changes
from pybuild.store.layers.fingerprint import fingerprint
from pybuild.store.layers.mapped_ids import MappedIds
from pybuild.store.layers.tree import make_tree
from pybuild.store.layers.tree_files import TreeContent
from pybuild.store.layers.view import View
from pybuild.store.system.directories import opened_directory
from pybuild.values import frozen

_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))  # of a name that was something else a moment ago


@frozen
class PackedMount:
    """A cache mount as a layer. `changed`: not one, because a process wrote to it meanwhile. `diff_id` is "" if it was not packed."""

    state: str  # the fingerprint of the directory
    diff_id: str = ""
    digest: str = ""
    size: int = 0  # bytes of the blob
    changed: bool = False


@frozen
class PackCacheMount:
    """Write the files of a cache mount as a layer, unless the directory has the fingerprint `known`.

    Raises UnsafePath, InvalidImage for what a layer cannot hold. What is not a layer in the end leaves no blob.
    """

    in_namespace: ClassVar[bool] = True
    directory: str
    known: str
    output: Output

    def run(self) -> PackedMount:
        with opened_directory(self.directory) as fd:
            state = _state(fd)
            if not state:
                return PackedMount("", changed=True)
            if state == self.known:
                return PackedMount(state)
            try:
                entries = changes(fd, View([]), Toc.of(())).entries
                with TreeContent(fd) as content:
                    layer = write_files(entries, content, self.output)
            except (OSError, InvalidImage):
                self._remove_blob()  # a full disk has room again for the rest of the build
                if _state(fd) != state:
                    return PackedMount(state, changed=True)
                raise
            if _state(fd) != state:
                self._remove_blob()
                return PackedMount(state, changed=True)
            return PackedMount(state, str(layer.diff_id), str(layer.digest), layer.size)

    def _remove_blob(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.output.blob)


def _state(fd: int) -> str:
    """The fingerprint of a directory; "" if a process removes or renames files in it at the moment."""
    try:
        return fingerprint(fd)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return ""


@frozen
class UnpackedMount:
    """A cache mount that was made from a layer. `owners_lost`: some files belong to ids that do not exist here."""

    state: str  # the fingerprint of the directory
    owners_lost: bool


@frozen
class UnpackCacheMount:
    """Make the directory of a cache mount from a layer, whose table of contents was made from its bytes.

    `mode`, `uid` and `gid` are those of the directory itself, if the layer has no entry for it. Raises InvalidImage for a
    layer that removes files: it lies on nothing.
    """

    in_namespace: ClassVar[bool] = True
    toc: str
    blob: BlobPlace
    directory: str
    mode: int
    uid: int
    gid: int

    def run(self) -> UnpackedMount:
        toc, ids = Toc.open(self.toc), MappedIds.of_this_process()
        for entry in toc:
            if entry.kind is Kind.WHITEOUT or entry.opaque:
                raise InvalidImage(f"entry {show(entry.path)}: it removes files, which a cache mount does not have")
        with new_tree(self.directory) as fd:
            os.fchown(fd, self.uid, self.gid)
            os.fchmod(fd, self.mode)
            tar = self.blob.open(hashed=False)
            make_tree(toc, tar, fd)
            tar.finish()  # reads to the end, where the digest is checked
            lost = any(ids.on_disk(entry.uid, entry.gid) != (entry.uid, entry.gid) for entry in toc)
            return UnpackedMount(fingerprint(fd), lost)
