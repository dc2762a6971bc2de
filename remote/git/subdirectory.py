"""A directory of a repository as a tree of its own."""

from __future__ import annotations

import os

from pybuild.remote.errors import RemoteError
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.read import read_archive
from pybuild.store.layers.view import ROOT, View


def entries_below(tar: str, name: str, subdir: str) -> list[Entry]:
    """The rows below `subdir` ("" is all), as of a root. No link is followed. Raises RemoteError where it is no directory."""
    with open(tar, "rb", buffering=1 << 20) as file:
        entries = read_archive(file, View([Toc.of([])]), None)
    if not subdir:
        return entries
    kinds = {entry.path: entry.kind for entry in entries}
    path = b""
    for part in os.fsencode(subdir).split(b"/"):
        path = path + b"/" + part if path else part
        kind = kinds.get(path)
        if kind is not Kind.DIRECTORY:
            shown = os.fsdecode(path)
            raise RemoteError(
                f"{name}: the repository has no directory {shown}"
                if kind is None
                else f"{name}: {shown} is no directory of the repository",
                hint="links are not followed there" if kind is Kind.SYMLINK else None,
            )
    below = path + b"/"
    rows = [entry._replace(path=entry.path[len(below) :]) for entry in entries if entry.path.startswith(below)]
    return [ROOT, *rows]
