"""A model of COPY as documented, on trees of plain values: slow, but short enough to check by reading.

The real planner must give the same results. Paths are tuples of names.
"""

from __future__ import annotations

import copy as copying
import fnmatch
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Path = tuple[str, ...]
Owner = tuple[int, int]
ANY_TIME = -1  # the time of a created parent directory, which is not specified


@dataclass(frozen=True)
class File:
    """Names with the same `inode` are hard links to one file; None is a file with one name."""

    content: bytes = b""
    mode: int = 0o644
    owner: Owner = (0, 0)
    mtime: int = 0
    inode: object = None


@dataclass(frozen=True)
class Link:
    target: str
    owner: Owner = (0, 0)
    mtime: int = 0


@dataclass
class Directory:
    names: dict[str, Node] = field(default_factory=dict)
    mode: int = 0o755
    owner: Owner = (0, 0)
    mtime: int = 0


Node = File | Link | Directory


class Refused(Exception):
    """This copy is an error."""


# Symbolic mode -> function of the old mode and of whether it is a directory, which returns the new mode.
SYMBOLIC: dict[str, Callable[[int, bool], int]] = {
    "u=rwX,go=rX": lambda mode, directory: (mode & 0o1000) | (0o755 if directory or mode & 0o111 else 0o644),
    "go-rwx": lambda mode, _: mode & ~0o077,
    "a+x": lambda mode, _: mode | 0o111,
}


@dataclass(frozen=True)
class ModelCopy:
    """One instruction: `owner` is --chown, `mode` --chmod. Files of a context belong to (0, 0), as with --chown=0:0."""

    sources: tuple[str, ...]
    dest: str
    owner: Owner | None = None
    mode: int | str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    archives: tuple[tuple[bytes, Directory], ...] = ()  # for ADD: content of an archive file -> the tree in it

    def apply(self, source: Directory, image: Directory) -> Directory:
        """The image after the copy; `image` itself does not change. Raises Refused."""
        image = copying.deepcopy(image)
        found = [item for text in self.sources for item in self.found(source, text)]
        kinds = [get(source, follow(source, path)) for path, _ in found]
        if None in kinds:
            raise Refused("a source does not exist")
        dest, is_directory = self.destination(image)
        archives = [self.archive(node) for node in kinds]
        before = copying.deepcopy(image)
        gone: set[tuple[str, ...]] = set()
        for (path, include), node, archive in zip(found, kinds, archives, strict=True):
            if isinstance(node, Directory):
                self.put_contents(image, dest, node, include)
                continue
            if archive is not None:
                gone |= {place for place in self.unpack(image, archive, gone) if isinstance(get(before, place), Directory)}
                continue
            inside = is_directory or isinstance(get(image, dest), Directory)
            target = (*dest, path[-1]) if inside else dest
            self.make_parents(image, target, self.changed_mode(0o755, directory=True))
            assert node is not None
            self.put(image, target, node)
        return image

    def archive(self, node: Node | None) -> Directory | None:
        """The tree in an archive file; None for other nodes."""
        return next((tree for data, tree in self.archives if isinstance(node, File) and node.content == data), None)

    def unpack(self, image: Directory, archive: Directory, before: set[Path]) -> set[Path]:
        """Unpack an archive into the destination, which is a directory and acts as the root of all links in it.

        Entries replace existing ones; a directory whose place is a link goes to the target of the link. Only --chown
        changes entries. Directories missing in the archive get mode 0755 and belong to root. Returns the paths of
        former directories that are something else now: neither this nor a later archive can make them directories
        again.
        """
        start = copying.deepcopy(image)
        dest = follow(image, tuple(part for part in self.dest.split("/") if part))
        self.make_parents(image, (*dest, "x"), 0o755)
        root = get(image, dest)
        assert isinstance(root, Directory)
        gone = set(before)
        for path, node in below(archive):
            place = follow(root, path) if isinstance(node, Directory) else (*follow(root, path[:-1]), path[-1])
            if not place:
                continue
            here = root
            for name in place[:-1]:
                above = here.names.setdefault(name, Directory({}, 0o755, (0, 0), ANY_TIME))
                if not isinstance(above, Directory):
                    raise Refused("a parent is not a directory")
                here = above
            at = here.names.get(place[-1])
            owner = self.owner if self.owner is not None else node.owner
            if isinstance(node, Directory):
                if (*dest, *place) in gone and not isinstance(at, Directory):
                    raise Refused("a directory of the image, made a file and again a directory")
                names = at.names if isinstance(at, Directory) else {}
                here.names[place[-1]] = Directory(names, node.mode, owner, node.mtime)
            else:
                if isinstance(at, Directory) and isinstance(get(start, (*dest, *place)), Directory):
                    gone.add((*dest, *place))
                here.names[place[-1]] = replace(node, owner=owner)
        return gone

    def found(self, source: Directory, text: str) -> list[tuple[Path, str]]:
        """The paths that a source matches, each with a pattern for the files below it; "" selects all of them.

        With --parents, that pattern is the whole source, or the part after its first `/./`.
        """
        if not self.parents:
            return [(path, "") for path in matches(source, text)]
        before, pivot, behind = text.partition("/./")
        top, include = (before, behind) if pivot else ("", text)
        include = "/".join(clean(include))
        if not any(character in top + include for character in "*?["):
            at = get(source, follow(source, clean(top)))
            if not isinstance(at, Directory) or get(at, clean(include)) is None:
                raise Refused("a source does not exist")
        found = [(path, include) for path in matches(source, top)]
        kinds = [get(source, follow(source, path)) for path, _ in found]
        if None in kinds:
            raise Refused("a source does not exist")
        return [item for item, kind in zip(found, kinds, strict=True) if isinstance(kind, Directory)]

    def is_wanted(self, path: Path, include: str) -> bool:
        return (not include or selected([include], path)) and not selected(self.exclude, path)

    def destination(self, image: Directory) -> tuple[Path, bool]:
        """The path of the destination with all links followed, and whether sources are copied into it as a directory."""
        parts = tuple(part for part in self.dest.split("/") if part)
        end = follow(image, parts)
        return end, self.dest.endswith("/") or isinstance(get(image, end), Directory)

    def changed_mode(self, mode: int, *, directory: bool) -> int:
        if isinstance(self.mode, str):
            return SYMBOLIC[self.mode](mode, directory)
        return mode if self.mode is None else self.mode

    def make_parents(self, image: Directory, path: Path, mode: int) -> None:
        """Create missing parents with this mode; they belong to root or to the owner of --chown."""
        here = image
        for name in path[:-1]:
            below = here.names.setdefault(name, Directory({}, mode, self.owner or (0, 0), ANY_TIME))
            if not isinstance(below, Directory):
                raise Refused("a parent is not a directory")
            here = below

    def put_contents(self, image: Directory, dest: Path, source: Directory, include: str) -> None:
        """Copy the contents of a directory. An existing destination keeps mode and owner, a new one gets its time."""
        at = get(image, dest)
        if at is None:
            mode = self.changed_mode(0o755, directory=True)
            self.make_parents(image, dest, mode)
            at = Directory({}, mode, self.owner or (0, 0), source.mtime)
            parent = get(image, dest[:-1])
            assert isinstance(parent, Directory)
            parent.names[dest[-1]] = at
        if not isinstance(at, Directory):
            raise Refused("a directory onto something else")
        done: set[Path] = set()
        for path, node in below(source):
            if not self.is_wanted(path, include):
                continue
            for length in range(1, len(path)):
                if path[:length] not in done:
                    done.add(path[:length])
                    self.copy_parent(image, (*dest, *path[:length]), get(source, path[:length]))
            done.add(path)
            self.put(image, (*dest, *path), node)

    def copy_parent(self, image: Directory, path: Path, node: Node | None) -> None:
        """Copy an unselected directory that contains selected entries: create it, or give it the source's mode."""
        assert isinstance(node, Directory)
        at = get(image, path)
        if isinstance(at, Directory):
            at.mode = node.mode
        else:
            self.put(image, path, node)

    def put(self, image: Directory, path: Path, node: Node) -> None:
        """Files and links replace each other; directories merge, and existing ones get the attributes of the source."""
        parent = get(image, path[:-1])
        assert isinstance(parent, Directory)
        at = parent.names.get(path[-1])
        if at is not None and isinstance(node, Directory) != isinstance(at, Directory):
            raise Refused("a directory and something else at one place")
        owner = self.owner if self.owner is not None else node.owner
        match node:
            case File():
                parent.names[path[-1]] = replace(node, owner=owner, mode=self.changed_mode(node.mode, directory=False))
            case Link():
                parent.names[path[-1]] = replace(node, owner=owner)
            case Directory():
                names = at.names if isinstance(at, Directory) else {}
                mode = self.changed_mode(node.mode, directory=True)
                parent.names[path[-1]] = Directory(names, mode, owner, node.mtime)


def below(tree: Directory) -> Iterator[tuple[Path, Node]]:
    """All nodes of a tree, each directory before its contents."""
    pending: list[tuple[Path, Node]] = [((name,), node) for name, node in tree.names.items()]
    while pending:
        path, node = pending.pop()
        yield path, node
        if isinstance(node, Directory):
            pending += [((*path, name), inside) for name, inside in node.names.items()]


def selected(patterns: list[str] | tuple[str, ...], path: Path) -> bool:
    """Whether the last pattern that matches a path or a directory above it is one without an exclamation mark."""
    result = False
    for pattern in patterns:
        parts = tuple(pattern.removeprefix("!").split("/"))
        if any(same(parts, path[:length]) for length in range(1, len(path) + 1)):
            result = not pattern.startswith("!")
    return result


def same(pattern: Path, path: Path) -> bool:
    """Whether a path matches a pattern; `**` is any number of names, at least one at the end of the pattern."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return bool(path) if len(pattern) == 1 else any(same(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and name_matches(path[0], pattern[0]) and same(pattern[1:], path[1:])


def name_matches(name: str, pattern: str) -> bool:
    """Whether one name matches a pattern; `[^a]` here is `[!a]` in a shell."""
    return fnmatch.fnmatchcase(name, pattern.replace("[^", "[!"))


def get(tree: Directory, path: Path) -> Node | None:
    """The node at a path, without following links."""
    here: Node | None = tree
    for name in path:
        here = here.names.get(name) if isinstance(here, Directory) else None
    return here


def follow(tree: Directory, path: Path) -> Path:
    """The path with all links resolved inside the tree. Raises Refused for a loop."""
    done: Path = ()
    todo = list(path)
    links = 0
    while todo:
        name = todo.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = done[:-1]
            continue
        node = get(tree, (*done, name))
        if not isinstance(node, Link):
            done = (*done, name)
            continue
        links += 1
        if links > 40:
            raise Refused("a loop of links")
        done = () if node.target.startswith("/") else done
        todo = node.target.split("/") + todo
    return done


def clean(text: str) -> Path:
    """A source without `.` and `..`, which are removed as text before links are resolved."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def matches(tree: Directory, text: str) -> list[Path]:
    """The paths that a source matches. A pattern can match nothing; the caller checks whether a plain path exists.

    Links before the first pattern are followed here; the caller follows a link that a pattern matches.
    """
    parts = clean(text)
    if not any(character in part for part in parts for character in "*?["):
        return [parts]
    plain = next(n for n, part in enumerate(parts) if any(character in part for character in "*?["))
    start = follow(tree, parts[:plain])
    if get(tree, start) is None:
        raise Refused("the directory before the pattern does not exist")
    found: list[Path] = [start]
    for part in parts[plain:]:
        below = []
        for path in found:
            at = get(tree, path)
            if isinstance(at, Directory):
                below += [(*path, name) for name in sorted(at.names) if name_matches(name, part)]
        found = below
    return found


def flat(tree: Directory, path: Path = ()) -> dict[str, tuple[object, ...]]:
    """Path -> attributes, for comparisons; the first path of a group of hard links names the group."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[object, str] = {}
    pending: list[tuple[Path, Node]] = [((), tree)]
    while pending:
        here, node = pending.pop()
        name = "/".join(here)
        match node:
            case Directory():
                found[name] = ("directory", node.mode, node.owner, node.mtime)
                pending += [((*here, below), node.names[below]) for below in sorted(node.names, reverse=True)]
            case Link():
                found[name] = ("link", node.owner, node.mtime, node.target)
            case File():
                group = name if node.inode is None else first.setdefault(node.inode, name)
                found[name] = ("file", node.mode, node.owner, node.mtime, node.content, group)
    return found
