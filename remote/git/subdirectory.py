"""The files of one directory of a repository."""

from __future__ import annotations

import os

from pybuild.remote.errors import RemoteError
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.read import read_archive
from pybuild.store.layers.view import ROOT, View


def entries_below(tar: str, name: str, subdir: str) -> list[Entry]:
    """The entries of a tar below `subdir`, with paths relative to it; "" is the whole tar. No link is followed.

    `name` is the repository in messages. Raises RemoteError if `subdir` is not a directory of the repository, UnsafePath
    for a file name that no layer can hold, OSError.
    """
    with open(tar, "rb", buffering=1 << 20) as file:
        entries = read_archive(file, View([Toc.of([])]), None)
    if not subdir:
        return entries
    found = {entry.path: entry for entry in entries}
    path = b""
    for part in os.fsencode(subdir).split(b"/"):
        path = path + b"/" + part if path else part
        kind = found[path].kind if path in found else None
        if kind is not Kind.DIRECTORY:
            shown = os.fsdecode(path)
            raise RemoteError(
                f"{name}: the repository has no directory {shown}"
                if kind is None
                else f"{name}: {shown} is not a directory of the repository",
                hint="pybuild does not follow links there" if kind is Kind.SYMLINK else None,
            )
    prefix = path + b"/"
    below = [entry._replace(path=entry.path[len(prefix) :]) for entry in entries if entry.path.startswith(prefix)]
    return [ROOT._replace(mtime=found[path].mtime), *below]
