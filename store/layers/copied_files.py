"""Copies of files and directories of a root: how a mount is replaced where nothing can be mounted."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.formats.toc import Kind
from pybuild.store.layers.root_directory import copy_file
from pybuild.store.layers.root_switch import with_offset, write_files
from pybuild.store.layers.tree_files import DirectoryCache, open_directory
from pybuild.store.layers.tree_maker import TreeMaker
from pybuild.store.system.directories import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.store.formats.toc import Entry
    from pybuild.store.layers.root_directory import LayerSource
    from pybuild.store.layers.view import View


def copy_directory(source_fd: int, target_fd: int) -> None:
    """Copy everything in a directory to an empty one, and its attributes. Sockets are left out. Raises OSError.

    No process may write to either. Names of one file become files of their own.
    """
    sources, targets = DirectoryCache(source_fd), DirectoryCache(target_fd)
    directories = []
    pending = [b""]
    while pending:
        prefix = pending.pop()
        fd, _ = sources.locate(prefix + b".")
        directories.append((prefix, os.fstat(fd)))
        with scan(fd) as entries:
            found = [(os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
        for name, status in found:
            if stat.S_ISDIR(status.st_mode):
                parent, _ = targets.locate(prefix + name)
                os.mkdir(name, 0o700, dir_fd=parent)
                pending.append(prefix + name + b"/")
            elif not stat.S_ISSOCK(status.st_mode):
                copy_file((fd, name), targets.locate(prefix + name))
    for prefix, status in reversed(directories):
        fd, _ = targets.locate(prefix + b".")
        os.fchown(fd, status.st_uid, status.st_gid)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
    sources.close()
    targets.close()


def copy_from_layers(root_fd: int, target: bytes, layers: Sequence[LayerSource], view: View, path: bytes) -> None:
    """Copy a file or directory of layers, the topmost first, to a path that does not exist. Its parent is there.

    Raises InvalidImage, DigestMismatch, OSError.
    """
    maker = TreeMaker(root_fd)
    numbers = {id(toc): number for number, toc in enumerate(view.layers)}
    files: dict[int, list[tuple[bytes, Entry]]] = {}
    directories = []
    root = view.lookup(path)
    assert root is not None, path
    for entry in (root, *view.walk(path)):
        located = view.locate(entry.path)
        place = (target + entry.path[len(path) :]) if path else (target + b"/" + entry.path).rstrip(b"/")
        if entry.kind is Kind.FILE:
            assert located is not None
            content = with_offset(located[0], entry)
            files.setdefault(numbers[id(located[0])], []).append((entry.path, content._replace(path=place)))
        elif entry.kind is Kind.DIRECTORY:
            directories.append(entry._replace(path=place, opaque=False))
            maker.directory(directories[-1])
        else:
            maker.special(entry._replace(path=place))
    write_files(maker, root_fd, layers, files)
    for entry in reversed(directories):
        maker.finish_directory(entry)
    maker.close()


def empty_directory(root_fd: int, path: bytes, mode: int) -> None:
    """Make a directory with this mode."""
    fd, name = open_directory(root_fd, path.rpartition(b"/")[0]), path.rpartition(b"/")[2]
    try:
        os.mkdir(name, 0o700, dir_fd=fd)
        os.chmod(name, mode, dir_fd=fd)
    finally:
        os.close(fd)
