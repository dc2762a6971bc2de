"""What a step changed: the upper directory of its overlay, compared with the layers below.

An entry equal to the one below is in the upper directory too, because opening a file for writing, or a `chmod` and its
reversal, copies the file up without changing it: step_changes.py drops it. An opaque directory becomes one whiteout for each
name that it hides, because all tools read such whiteouts the same way. Overlayfs marks the files that it copied up, but not
files with several names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.tar import show
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.formats.whiteout import refuse_reserved
from pybuild.store.layers.step_changes import CAPABILITY, ChangeFinder, StepChanges, attribute_names, is_nothing
from pybuild.store.layers.tree_files import OPAQUE, open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.store.formats.toc import Toc
    from pybuild.store.layers.view import View

_OVERLAY_XATTRS = "user.overlay."
_UNSUPPORTED = frozenset(("user.overlay.redirect", "user.overlay.metacopy"))
_ORIGIN = "user.overlay.origin"  # only on files that were copied up from a lower layer


def changes(upper_fd: int, below: View, scaffold: Toc) -> StepChanges:
    """The layer that an upper directory makes.

    `scaffold` lists the mount points that pybuild added below this step only: an entry that equals one of them is not
    a change. Raises UnsafePath for a name that a layer cannot hold, InvalidImage for overlay features that pybuild never
    turns on.
    """
    found = _UpperDirectory(upper_fd, below, scaffold)
    found.add_root()
    pending = [(b"", False)]
    while pending:
        pending += found.compare(*pending.pop())
    return found.finish()


class _UpperDirectory(ChangeFinder):
    def __init__(self, upper_fd: int, below: View, scaffold: Toc) -> None:
        super().__init__(upper_fd, below, scaffold)
        self._directories: dict[bytes, Entry] = {}

    def compare(self, path: bytes, hidden: bool) -> Iterator[tuple[bytes, bool]]:
        """Compare one directory; yield its subdirectories, each with whether it hides its content in layers below."""
        fd = open_directory(self.root, path)
        try:
            with os.scandir(fd) as found:
                names = [os.fsencode(entry.name) for entry in found]
            for name in names:
                child = path + b"/" + name if path else name
                status = os.lstat(name, dir_fd=fd)
                if is_nothing(status):
                    self.add_removed(child)
                    continue
                refuse_reserved(child)
                xattrs = self._xattrs(fd, name, status, child)
                entry = self.add(child, status, xattrs)
                if entry.kind is Kind.DIRECTORY:
                    self._directories[child] = entry
                    yield child, hidden or xattrs.get(OPAQUE) == b"y"
            if hidden:
                present = set(names)
                for lower in self.below.readdir(path):
                    if lower.path.rpartition(b"/")[2] not in present:
                        self.add_removed(lower.path)
        finally:
            os.close(fd)

    def is_same_file(self, path: bytes, status: os.stat_result, xattrs: dict[str, bytes]) -> bool:
        return _ORIGIN in xattrs

    def directory(self, path: bytes) -> Entry:
        return self._directories[path]

    def _xattrs(self, fd: int, name: bytes, status: os.stat_result, path: bytes) -> dict[str, bytes]:
        """The extended attributes that matter: overlayfs's own, and the capabilities of a file."""
        host_path, keys = attribute_names(fd, name, status)
        found = {}
        for key in keys:
            if key in _UNSUPPORTED:
                raise InvalidImage(
                    f"entry {show(path)}: the overlay used {key}, which would lose content",
                    hint="this is a bug in pybuild: please report it",
                )
            if key.startswith(_OVERLAY_XATTRS) or key == CAPABILITY:
                found[key] = os.getxattr(host_path, key, follow_symlinks=False)
        return found
