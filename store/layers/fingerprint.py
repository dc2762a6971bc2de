"""A fingerprint of a directory of this machine: it changes when anything in the directory does.

It is made of what stat(2) says of each file, with inode and ctime, which no program can set. No content is read. So it tells
whether a directory is as it was before, and says nothing about a copy of it.
"""

from __future__ import annotations

import hashlib
import os
import stat

from pybuild.store.layers.tree_files import open_directory


def fingerprint(root_fd: int) -> str:
    """The fingerprint of a directory with all that is in it, in hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()

    def add(path: bytes, status: os.stat_result) -> None:
        fields = (
            status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns,
            status.st_ctime_ns,
        )  # fmt: skip
        digest.update(b"%d %s %s\n" % (len(path), path, repr(fields).encode("ascii")))

    add(b"", os.fstat(root_fd))
    pending = [b""]
    while pending:
        path = pending.pop()
        fd = open_directory(root_fd, path)
        try:
            with os.scandir(fd) as found:
                names = sorted(os.fsencode(entry.name) for entry in found)
            for name in names:
                child = path + b"/" + name if path else name
                status = os.lstat(name, dir_fd=fd)
                add(child, status)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(child)
        finally:
            os.close(fd)
    return digest.hexdigest()
