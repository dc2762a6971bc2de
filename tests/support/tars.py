"""Makes tars by hand, and reads trees as plain values, for tests of the store."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pybuild.store.formats import tar as tarformat
from pybuild.store.formats.tar_header import entry_header

if TYPE_CHECKING:
    from pathlib import Path

END = tarformat.END


def entry(
    name: bytes,
    kind: bytes = tarformat.REGULAR,
    data: bytes = b"",
    *,
    link: bytes = b"",
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    device: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """One member with its data."""
    if mode is None:
        mode = 0o755 if kind == tarformat.DIRECTORY else 0o644
    head = entry_header(
        name, kind, mode=mode, uid=uid, gid=gid, size=len(data), mtime=mtime, link=link, device=device, xattrs=xattrs
    )
    return head + data + bytes(-len(data) % tarformat.BLOCK)


def directory(name: bytes, **fields: object) -> bytes:
    return entry(name, tarformat.DIRECTORY, **fields)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes, **fields: object) -> bytes:
    return entry(name, tarformat.SYMLINK, link=target, **fields)  # type: ignore[arg-type]


def hardlink(name: bytes, target: bytes) -> bytes:
    return entry(name, tarformat.HARDLINK, link=target)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + END


def listing(root: Path | str) -> dict[str, tuple[object, ...]]:
    """A tree on disk as a value: path -> type, mode, uid, gid, mtime, content, xattrs, first path of its inode."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    pending = [""]
    while pending:
        path = pending.pop(0)
        full = os.path.join(os.fspath(root), path)
        status = os.lstat(full)
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFDIR:
            pending += [os.path.join(path, name) for name in sorted(os.listdir(full))]
        elif kind == stat.S_IFREG:
            with open(full, "rb") as file:
                content = file.read()
        elif kind == stat.S_IFLNK:
            content = os.readlink(full)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = status.st_rdev
        xattrs = {
            key: os.getxattr(full, key, follow_symlinks=False) for key in os.listxattr(full, follow_symlinks=False)
        }
        group = first.setdefault(status.st_ino, path) if kind != stat.S_IFDIR else path
        found[path] = (
            kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns // 10**9, content, xattrs, group,
        )  # fmt: skip
    return found
