"""WORKDIR: the directories it has to make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.toc import Entry, Kind, parent_of

if TYPE_CHECKING:
    from store.view import View


def missing_directories(view: View, path: str, uid: int, gid: int, now: int) -> list[Entry]:
    """The rows for all missing parts of an absolute path, 0755 and of the given owner, with their parents' rows.

    Directories that exist are not touched; links of the image are followed inside of it. Raises LinkLoop.
    """
    target = view.resolve(path.encode("utf-8", "surrogateescape"))
    missing = []
    here = target
    while here and view.lookup(here) is None:
        missing.append(here)
        here = parent_of(here)
    if not missing:
        return []
    rows = [Entry(directory, Kind.DIRECTORY, 0o755, uid, gid, now) for directory in missing]
    while here:
        above = view.lookup(here)
        assert above is not None
        rows.append(above._replace(opaque=False))
        here = parent_of(here)
    return rows[::-1]
