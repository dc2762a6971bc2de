"""The scaffold: the mount points that a step needs and its image lacks.

The scaffold is a directory that is mounted above the layers of the image. It holds the missing names and copies of
their parents, `/` included, because overlayfs takes the mode, owner and time of a merged directory from the upper one.
Nothing of it ends up in a layer: the layer writer ignores whatever exists in the scaffold only.
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
    """What to create above the layers, and where the mount points are once the image's links are followed.

    All paths are absolute paths in the image.
    """

    entries: tuple[Entry, ...]  # the root first
    resolv_conf: str
    hosts: str
    mounts: tuple[str, ...] = ()  # one for each mount of the step, in order


def scaffold_for(view: View, mounts: Sequence[MountPoint] = ()) -> Scaffold:
    """The scaffold for these layers. Raises SandboxError if the image has something else at a mount point."""
    by_path: dict[bytes, Entry] = {b"": view.lookup(b"") or ROOT}
    for name in _DIRECTORIES:
        entry = view.lookup(name)
        if entry is not None and entry.kind is not Kind.DIRECTORY:
            raise SandboxError(f"the image has a non-directory at /{name.decode()}")
        _add_missing(by_path, view, name, Kind.DIRECTORY)
    resolv_conf, hosts = (_file_target(by_path, view, name) for name in (b"etc/resolv.conf", b"etc/hosts"))
    targets = _mount_targets(by_path, view, mounts)
    entries = sorted(by_path.values(), key=lambda entry: sort_key(entry.path))
    return Scaffold(tuple(entry._replace(opaque=False, offset=-1) for entry in entries), resolv_conf, hosts, targets)


def _file_target(by_path: dict[bytes, Entry], view: View, name: bytes) -> str:
    """Where to bind-mount a file: the path to which the image's symbolic links lead. The links stay as they are."""
    try:
        path = view.resolve(name)
    except LinkLoop:
        raise SandboxError(f"/{name.decode()} of the image has too many levels of symbolic links") from None
    entry = view.lookup(path)
    if entry is not None and entry.kind is Kind.DIRECTORY:
        raise SandboxError(f"/{name.decode()} of the image is a directory")
    _add_missing(by_path, view, path, Kind.FILE)
    return "/" + path.decode("utf-8", "surrogateescape")


def _mount_targets(by_path: dict[bytes, Entry], view: View, mounts: Sequence[MountPoint]) -> tuple[str, ...]:
    """Where each mount goes. A mount point inside another mount is created there, regardless of the image's links."""
    covered = set(_DIRECTORIES)

    def lookup(path: bytes) -> Entry | None:
        return None if is_covered(path) else view.lookup(path)

    def is_covered(path: bytes) -> bool:
        while path := parent_of(path):
            if path in covered:
                return True
        return False

    placed: dict[str, str] = {}
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
                f"where the step mounts a {'directory' if mount.directory else 'file'}"
            )
        if not is_covered(path):
            _add_missing(by_path, view, path, Kind.DIRECTORY if mount.directory else Kind.FILE)
        covered.add(path)
        placed[mount.target] = "/" + os.fsdecode(path)
    return tuple(placed[mount.target] for mount in mounts)


def _add_missing(by_path: dict[bytes, Entry], view: View, path: bytes, kind: Kind) -> None:
    """Add an entry for a name that the image lacks, and for each of its parents."""
    if view.lookup(path) is not None or path in by_path:
        return
    by_path[path] = Entry(path, kind, 0o755 if kind is Kind.DIRECTORY else 0o644, mtime=by_path[b""].mtime)
    while (path := parent_of(path)) and path not in by_path:
        above = view.lookup(path)
        if above is not None and above.kind is not Kind.DIRECTORY:
            raise SandboxError(f"the image has a non-directory at /{path.decode('utf-8', 'replace')}")
        by_path[path] = above if above is not None else Entry(path, Kind.DIRECTORY, 0o755, mtime=by_path[b""].mtime)
