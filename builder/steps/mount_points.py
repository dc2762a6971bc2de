"""The mount points that a step needs and its image lacks.

They lie in a directory of their own, above the layers of the image: just the missing names, and their parents as the
image has them, `/` included, because a directory of an upper layer decides the mode, owner and time of the merged one.
Nothing of it ends up in a layer: what stands only here is no change of the step.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.builder.errors import SandboxError
from pybuild.store.formats.toc import Entry, Kind, parent_of, sort_key
from pybuild.store.layers.view import ROOT, LinkLoop, resolve
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builder.steps.mounts import MountPoint
    from pybuild.store.layers.view import View

_DIRECTORIES = (b"proc", b"sys", b"dev")


@frozen
class Scaffold:
    """The rows to make, the root first; and where the image's links lead for the two bound files and for the mounts of
    the step (absolute paths).
    """

    entries: tuple[Entry, ...]
    resolv_conf: str
    hosts: str
    mounts: tuple[str, ...] = ()


def scaffold_for(view: View, mounts: Sequence[MountPoint] = ()) -> Scaffold:
    """What has to be put above these layers. Raises SandboxError where the image has something else in the place."""
    rows: dict[bytes, Entry] = {b"": view.lookup(b"") or ROOT}
    for name in _DIRECTORIES:
        entry = view.lookup(name)
        if entry is not None and entry.kind is not Kind.DIRECTORY:
            raise SandboxError(f"the image has a non-directory at /{name.decode()}")
        _need(rows, view, name, Kind.DIRECTORY)
    resolv_conf, hosts = (_file_target(rows, view, name) for name in (b"etc/resolv.conf", b"etc/hosts"))
    targets = _mount_targets(rows, view, mounts)
    entries = sorted(rows.values(), key=lambda entry: sort_key(entry.path))
    return Scaffold(tuple(entry._replace(opaque=False, offset=-1) for entry in entries), resolv_conf, hosts, targets)


def _file_target(rows: dict[bytes, Entry], view: View, name: bytes) -> str:
    """Where a file is bound: at the end of the image's links. They stay what they are."""
    try:
        path = view.resolve(name)
    except LinkLoop:
        raise SandboxError(f"/{name.decode()} of the image has too many levels of symbolic links") from None
    entry = view.lookup(path)
    if entry is not None and entry.kind is Kind.DIRECTORY:
        raise SandboxError(f"/{name.decode()} of the image is a directory")
    _need(rows, view, path, Kind.FILE)
    return "/" + path.decode("utf-8", "surrogateescape")


def _mount_targets(rows: dict[bytes, Entry], view: View, mounts: Sequence[MountPoint]) -> tuple[str, ...]:
    """Where each mount goes. What lies in another mount is made there, and the image's links do not count in it."""
    covered = set(_DIRECTORIES)

    def lookup(path: bytes) -> Entry | None:
        return None if is_covered(path) else view.lookup(path)

    def is_covered(path: bytes) -> bool:
        while path := parent_of(path):
            if path in covered:
                return True
        return False

    found: dict[str, str] = {}
    for mount in sorted(mounts, key=lambda mount: mount.target.split("/")):
        try:
            path = resolve(lookup, os.fsencode(mount.target))
        except LinkLoop:
            raise SandboxError(f"the mount point {mount.target} has too many levels of symbolic links") from None
        if not path:
            raise SandboxError(f"the mount point {mount.target} leads to the root of the image")
        entry = lookup(path)
        if entry is not None and (entry.kind is Kind.DIRECTORY) != mount.directory:
            raise SandboxError(
                f"the image has a {'non-directory' if mount.directory else 'directory'} at {mount.target}, "
                f"where a {'directory' if mount.directory else 'file'} is to be mounted"
            )
        if not is_covered(path):
            _need(rows, view, path, Kind.DIRECTORY if mount.directory else Kind.FILE)
        covered.add(path)
        found[mount.target] = "/" + os.fsdecode(path)
    return tuple(found[mount.target] for mount in mounts)


def _need(rows: dict[bytes, Entry], view: View, path: bytes, kind: Kind) -> None:
    """Add a row for a name that the image lacks, and rows for its parents."""
    if view.lookup(path) is not None or path in rows:
        return
    rows[path] = Entry(path, kind, 0o755 if kind is Kind.DIRECTORY else 0o644, mtime=rows[b""].mtime)
    while (path := parent_of(path)) and path not in rows:
        above = view.lookup(path)
        if above is not None and above.kind is not Kind.DIRECTORY:
            raise SandboxError(f"the image has a non-directory at /{path.decode('utf-8', 'replace')}")
        rows[path] = above if above is not None else Entry(path, Kind.DIRECTORY, 0o755, mtime=rows[b""].mtime)
