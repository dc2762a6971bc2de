"""A root filesystem, merged from the tables of contents of its layers, without a mount or privileges.

`View` looks up paths, lists directories and follows symbolic links by the merge rules of the OCI image-spec (layer.md):
the topmost layer that has a name decides; a whiteout removes a name; a directory merges with the directories below it,
down to an opaque directory or to an entry that is not a directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pybuild.store.formats.toc import Entry, Kind, Toc, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Entry(b"", Kind.DIRECTORY, 0o755)  # the root of an image whose layers have no entry for it
MAX_LINKS = 40  # the kernel's MAXSYMLINKS
_MAX_HEIGHT = 64  # views, each of which takes answers from the next; the view above starts anew
_MAX_STEPS = 16_384  # components in one resolution; the kernel limits the bytes of a path instead


File: TypeAlias = tuple[int, bytes]  # the number of a layer, topmost 0, and the first name that its tar has of the file


class LinkLoop(Exception):
    """A path leads through more than MAX_LINKS symbolic links, or its resolution takes too many steps."""


def resolve(lookup: Callable[[bytes], Entry | None], path: bytes, *, follow_last: bool = True) -> bytes:
    """Follow the symbolic links of `path` in the tree that `lookup` reads; the result does not have to exist.

    ".." at the root is the root, and absolute targets start at the root. Raises LinkLoop.
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
        path_so_far = done + b"/" + part if done else part
        entry = lookup(path_so_far) if (todo or follow_last) else None
        if entry is None or entry.kind is not Kind.SYMLINK:
            done = path_so_far
            continue
        links += 1
        if links > MAX_LINKS:
            raise LinkLoop(path)
        if entry.link.startswith(b"/"):
            done = b""
        todo += entry.link.split(b"/")[::-1]
    return done


class View:
    """The merged tree of `layers`, the topmost first. Immutable, except for caches.

    A stack of many small layers is asked about the same paths after each new layer. `on_top` makes the view of the next
    layer: it asks the new layer only, and takes all other answers from the view below.
    """

    def __init__(self, layers: Sequence[Toc], *, _below: View | None = None) -> None:
        self.layers = tuple(layers)
        self._below = _below
        self._height: int = 0 if _below is None else _below._height + 1
        self._located: dict[bytes, tuple[Toc, Entry] | None] | None = None  # if another view stands on this one
        self._numbers = {id(toc): number for number, toc in enumerate(self.layers)}
        self._merged: dict[bytes, tuple[Toc, ...]] = {b"": self._root_layers()}
        self._same: dict[File, File] | None = None  # a file -> the same file in another layer; made if needed

    def on_top(self, layer: Toc) -> View:
        """The view of these layers and one more on top, which takes answers from this one."""
        if self._located is None:
            self._located = {}
        # Answers are looked for from view to view, by recursion.
        return View((layer, *self.layers), _below=self if self._height < _MAX_HEIGHT else None)

    def lookup(self, path: bytes) -> Entry | None:
        """The entry at `path`, without following links, or None. The root always exists."""
        found = self.locate(path)
        return found[1] if found else (ROOT if not path else None)

    def locate(self, path: bytes) -> tuple[Toc, Entry] | None:
        """The entry at `path` and the layer it comes from; None if there is none, or for a root without an entry."""
        if self._located is None:
            return self._locate(path)
        if path not in self._located:
            self._located[path] = self._locate(path)
        return self._located[path]

    def _locate(self, path: bytes) -> tuple[Toc, Entry] | None:
        layers = self._layers_of(parent_of(path)) if path else self.layers
        own = layers if self._below is None else layers[: layers[:1] == self.layers[:1]]
        for toc in own:
            entry = toc.find(path)
            if entry is not None:
                return None if entry.kind is Kind.WHITEOUT else (toc, entry)
        return self._below.locate(path) if self._below is not None and len(layers) > len(own) else None

    def readdir(self, path: bytes) -> list[Entry]:
        """The entries in a directory, in order; empty if `path` is not a directory."""
        found: dict[bytes, Entry] = {}
        for toc in self._layers_of(path):
            for entry in toc.children(path):
                found.setdefault(entry.path, entry)
        return [found[name] for name in sorted(found) if found[name].kind is not Kind.WHITEOUT]

    def walk(self, path: bytes) -> Iterator[Entry]:
        """Everything below a directory, in order; a directory comes before its content."""
        pending = self.readdir(path)[::-1]
        while pending:
            entry = pending.pop()
            yield entry
            if entry.kind is Kind.DIRECTORY:
                pending += self.readdir(entry.path)[::-1]

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """Follow the symbolic links of `path` inside this root; the result does not have to exist. Raises LinkLoop."""
        return resolve(self.lookup, path, follow_last=follow_last)

    def file_of(self, toc: Toc, entry: Entry) -> File:
        """What all names of a file share. `toc` and `entry` are what `locate` returned for one of its names.

        Hard links reach across layers as far as the tables of contents know (`Toc.links`). A layer that replaces one of
        the names breaks the link of that name only.
        """
        if self._same is None:
            self._same = self._links()
        return _last(self._same, (self._numbers[id(toc)], entry.hardlink or entry.path))

    def _links(self) -> dict[File, File]:
        same: dict[File, File] = {}
        for number, toc in enumerate(self.layers):
            for group in toc.links:
                files: dict[File, None] = {}  # in order, each once
                for path in group:
                    located = self.locate(path)
                    # A name that a layer above this one has replaced is another file now.
                    if located is not None and (found := self._numbers[id(located[0])]) >= number:
                        files[_last(same, (found, located[1].hardlink or path))] = None
                if files:
                    first, *others = files
                    same |= dict.fromkeys(others, first)
        return same

    def _root_layers(self) -> tuple[Toc, ...]:
        found = []
        for toc in self.layers if self._below is None else self.layers[:1]:
            found.append(toc)
            root = toc.find(b"")
            if root is not None and root.opaque:
                return tuple(found)
        return (*found, *(self._below._merged[b""] if self._below is not None else ()))

    def _layers_of(self, path: bytes) -> tuple[Toc, ...]:
        """The layers that take part in the directory at `path`, topmost first; none if it is not a directory."""
        known = self._merged.get(path)
        if known is not None:
            return known
        # A loop up to a known ancestor and down again, instead of recursion: a path can have thousands of components.
        missing = [path]
        while (above := parent_of(missing[-1])) not in self._merged:
            missing.append(above)
        for step in reversed(missing):
            self._merged[step] = self._merge(self._merged[parent_of(step)], step)
        return self._merged[path]

    def _merge(self, above: tuple[Toc, ...], path: bytes) -> tuple[Toc, ...]:
        """The layers that take part in a directory; `above` are those of its parent."""
        own = above if self._below is None else above[: above[:1] == self.layers[:1]]
        layers: list[Toc] = []
        for toc in own:
            entry = toc.find(path)
            if entry is None:
                continue
            if entry.kind is not Kind.DIRECTORY:
                return tuple(layers)
            layers.append(toc)
            if entry.opaque:
                return tuple(layers)
        return (*layers, *(self._below._layers_of(path) if self._below is not None and len(above) > len(own) else ()))


def _last(same: dict[File, File], file: File) -> File:
    while (other := same.get(file)) is not None:
        file = other
    return file
