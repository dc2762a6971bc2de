"""A dictionary of paths that can forget everything below a directory."""

from __future__ import annotations

from typing import TypeVar

from pybuild.store.formats.toc import parent_of

_T = TypeVar("_T")


class PathDict(dict[bytes, _T]):
    """Path -> value. `drop_below` takes time for what it drops, not for what stays."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[bytes, set[bytes]] | None = None  # directory -> paths in it; made if needed, as it seldom is

    def __setitem__(self, path: bytes, value: _T) -> None:
        super().__setitem__(path, value)
        if self._names is not None:
            self._index(self._names, path)

    def drop_below(self, directory: bytes) -> list[bytes]:
        """Remove all paths below a directory, which stays; return them."""
        if self._names is None:
            self._names = {}
            for path in self:
                self._index(self._names, path)
        dropped = []
        pending = [directory]
        while pending:
            for path in self._names.pop(pending.pop(), ()):
                pending.append(path)
                if self.pop(path, None) is not None:
                    dropped.append(path)
        return dropped

    @staticmethod
    def _index(names: dict[bytes, set[bytes]], path: bytes) -> None:
        """Add a path to its directory, and the directories above it that have no value to theirs."""
        while path:
            above = parent_of(path)
            known = names.setdefault(above, set())
            if path in known:
                return
            known.add(path)
            path = above
