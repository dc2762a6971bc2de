"""A root filesystem as its layers' tables of contents make it, without a mount and without privilege.

`View` answers what lies at a path, what a directory holds and where a symbolic link leads, by the merge rules of the
OCI image-spec (layer.md): the topmost layer that knows a name decides, a whiteout removes, a directory merges with
the directories below it unless it is opaque or something below is no directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Entry(b"", Kind.DIRECTORY, 0o755)  # of an image whose layers say nothing about their root
MAX_LINKS = 40  # as the kernel's MAXSYMLINKS
_MAX_STEPS = 16_384  # components walked in one resolution; the kernel's limit is one of bytes


class LinkLoop(Exception):
    """A path leads through more than MAX_LINKS symbolic links, or they lead further than any real path."""


def resolve(lookup: Callable[[bytes], Entry | None], path: bytes, *, follow_last: bool = True) -> bytes:
    """Follow the symbolic links of `path` in the tree that `lookup` answers for; the result need not exist.

    ".." at the root stays there, absolute targets start at the root. Raises LinkLoop.
    """
    done = b""
    todo = path.split(b"/")[::-1]
    links = steps = 0
    while todo:
        part = todo.pop()
        if part in (b"", b"."):
            continue
        steps += 1
        if steps > _MAX_STEPS:
            raise LinkLoop(path)
        if part == b"..":
            done = parent_of(done)
            continue
        here = done + b"/" + part if done else part
        entry = lookup(here) if (todo or follow_last) else None
        if entry is None or entry.kind is not Kind.SYMLINK:
            done = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise LinkLoop(path)
        if entry.link.startswith(b"/"):
            done = b""
        todo += entry.link.split(b"/")[::-1]
    return done


class View:
    """The merged tree of `layers`, the topmost first. Immutable; answers about directories are remembered."""

    def __init__(self, layers: Sequence[Toc]) -> None:
        self.layers = tuple(layers)
        self._visible: dict[bytes, tuple[Toc, ...]] = {b"": self._root_layers()}

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at `path` (no link is followed), or None. The root always exists."""
        found = self.locate(path)
        return found[1] if found else (ROOT if not path else None)

    def locate(self, path: bytes) -> tuple[Toc, Entry] | None:
        """As `lookup`, with the layer that the entry comes from; None also for a root that no layer mentions."""
        for toc in self._layers_of(parent_of(path)) if path else self.layers:
            entry = toc.find(path)
            if entry is not None:
                return None if entry.kind is Kind.WHITEOUT else (toc, entry)
        return None

    def readdir(self, path: bytes) -> list[Entry]:
        """The entries in a directory, in order; empty where there is no directory."""
        found: dict[bytes, Entry] = {}
        for toc in self._layers_of(path):
            for entry in toc.children(path):
                found.setdefault(entry.path, entry)
        return [found[name] for name in sorted(found) if found[name].kind is not Kind.WHITEOUT]

    def walk(self, path: bytes) -> Iterator[Entry]:
        """Everything below a directory, each directory before what it holds, in order."""
        pending = self.readdir(path)[::-1]
        while pending:
            entry = pending.pop()
            yield entry
            if entry.kind is Kind.DIRECTORY:
                pending += self.readdir(entry.path)[::-1]

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """Follow the symbolic links of `path` inside this root; the result need not exist. Raises LinkLoop."""
        return resolve(self.lookup, path, follow_last=follow_last)

    def _root_layers(self) -> tuple[Toc, ...]:
        found = []
        for toc in self.layers:
            found.append(toc)
            root = toc.find(b"")
            if root is not None and root.opaque:
                break
        return tuple(found)

    def _layers_of(self, path: bytes) -> tuple[Toc, ...]:
        """The layers that take part in the directory at `path`, topmost first; none where it is no directory."""
        known = self._visible.get(path)
        if known is not None:
            return known
        # Find the nearest known ancestor, then come down again: paths may be thousands of components deep.
        missing = [path]
        while (above := parent_of(missing[-1])) not in self._visible:
            missing.append(above)
        for step in reversed(missing):
            layers = []
            for toc in self._visible[parent_of(step)]:
                entry = toc.find(step)
                if entry is None:
                    continue
                if entry.kind is not Kind.DIRECTORY:
                    break
                layers.append(toc)
                if entry.opaque:
                    break
            self._visible[step] = tuple(layers)
        return self._visible[path]
