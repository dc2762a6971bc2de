"""COPY as its documentation tells it, on trees of plain values: slow, and short enough to be believed.

What it says about a copy is what the real planner has to come to. Paths are tuples of names.
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
ANY_TIME = -1  # of a directory that is made on the way: nothing is promised


@dataclass(frozen=True)
class File:
    """`inode` tells which names are of one file; None is a file of one name."""

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


# What some symbolic modes make of the mode of a file, and of a directory.
SYMBOLIC: dict[str, Callable[[int, bool], int]] = {
    "u=rwX,go=rX": lambda mode, directory: (mode & 0o1000) | (0o755 if directory or mode & 0o111 else 0o644),
    "go-rwx": lambda mode, _: mode & ~0o077,
    "a+x": lambda mode, _: mode | 0o111,
}


@dataclass(frozen=True)
class Copy:
    """One instruction: `owner` is --chown, `mode` --chmod. A context's files belong to (0, 0), as if --chown said so."""

    sources: tuple[str, ...]
    dest: str
    owner: Owner | None = None
    mode: int | str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    archives: tuple[tuple[bytes, Directory], ...] = ()  # of ADD: what is in a file with this content

    def apply(self, source: Directory, image: Directory) -> Directory:
        """The image afterwards. Raises Refused; the image that was given stays as it is."""
        image = copying.deepcopy(image)
        found = [item for text in self.sources for item in self.found(source, text)]
        kinds = [get(source, follow(source, path)) for path, _ in found]
        if None in kinds:
            raise Refused("a source does not exist")
        dest, is_directory = self.destination(image)
        archives = [self.archive(node) for node in kinds]
        files = [n for n, a in zip(kinds, archives, strict=True) if a is None and not isinstance(n, Directory)]
        if not is_directory and len(files) > 1:
            raise Refused("several files onto one name")
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
            self.make_parents(image, target)
            assert node is not None
            self.put(image, target, node)
        return image

    def archive(self, node: Node | None) -> Directory | None:
        """What is in a file that is an archive."""
        return next((tree for data, tree in self.archives if isinstance(node, File) and node.content == data), None)

    def unpack(self, image: Directory, archive: Directory, before: set[Path]) -> set[Path]:
        """Into the destination as a directory, wherever links lead there, and as if that were the root.

        Entries replace what is in their way; a directory goes where a link at its place leads. Nothing but --chown
        changes them, and directories that the archive leaves out are 0755 of root. The answer are the places of directories
        that are something else now: those cannot become directories again, nor can those of an archive before.
        """
        start = copying.deepcopy(image)
        dest = follow(image, tuple(part for part in self.dest.split("/") if part))
        self.make_parents(image, (*dest, "x"))
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
                    raise Refused("a parent is no directory")
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
        """The paths that a source stands for, each with the pattern of what is wanted below it; none is everything.

        With --parents all of a source is such a pattern, or what stands behind its first `/./`.
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

    def wants(self, path: Path, include: str) -> bool:
        return (not include or taken([include], path)) and not taken(self.exclude, path)

    def destination(self, image: Directory) -> tuple[Path, bool]:
        """Where the destination is, and whether things go inside of it.

        A link is followed where it leads to a directory, or where a slash behind it demands one; else it is what will be
        replaced.
        """
        parts = tuple(part for part in self.dest.split("/") if part)
        end = follow(image, parts)
        if self.dest.endswith("/") or isinstance(get(image, end), Directory):
            return end, True
        return (*follow(image, parts[:-1]), parts[-1]), False

    def changed_mode(self, mode: int, *, directory: bool) -> int:
        if isinstance(self.mode, str):
            return SYMBOLIC[self.mode](mode, directory)
        return mode if self.mode is None else self.mode

    def make_parents(self, image: Directory, path: Path) -> None:
        """Missing ones are 0755 and of root, or of who --chown names."""
        here = image
        for name in path[:-1]:
            below = here.names.setdefault(name, Directory({}, 0o755, self.owner or (0, 0), ANY_TIME))
            if not isinstance(below, Directory):
                raise Refused("a parent is no directory")
            here = below

    def put_contents(self, image: Directory, dest: Path, source: Directory, include: str) -> None:
        """A directory gives what is in it; one that exists keeps its mode and owner, a new one has the source's time."""
        at = get(image, dest)
        if at is None:
            self.make_parents(image, dest)
            at = Directory({}, self.changed_mode(0o755, directory=True), self.owner or (0, 0), source.mtime)
            parent = get(image, dest[:-1])
            assert isinstance(parent, Directory)
            parent.names[dest[-1]] = at
        if not isinstance(at, Directory):
            raise Refused("a directory onto something else")
        done: set[Path] = set()
        for path, node in below(source):
            if not self.wants(path, include):
                continue
            for length in range(1, len(path)):
                if path[:length] not in done:
                    done.add(path[:length])
                    self.bring_along(image, (*dest, *path[:length]), get(source, path[:length]))
            done.add(path)
            self.put(image, (*dest, *path), node)

    def bring_along(self, image: Directory, path: Path, node: Node | None) -> None:
        """A directory that is not wanted, above something that is: made as if it were, or given the source's mode."""
        assert isinstance(node, Directory)
        at = get(image, path)
        if isinstance(at, Directory):
            at.mode = node.mode
        else:
            self.put(image, path, node)

    def put(self, image: Directory, path: Path, node: Node) -> None:
        """Files and links replace one another; directories merge, and those that were there take what the source has."""
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
    """Everything in a tree, each directory before what is in it."""
    pending: list[tuple[Path, Node]] = [((name,), node) for name, node in tree.names.items()]
    while pending:
        path, node = pending.pop()
        yield path, node
        if isinstance(node, Directory):
            pending += [((*path, name), inside) for name, inside in node.names.items()]


def taken(patterns: list[str] | tuple[str, ...], path: Path) -> bool:
    """Whether the last pattern that matches a path, or a directory above it, is one without an exclamation mark."""
    result = False
    for pattern in patterns:
        parts = tuple(pattern.removeprefix("!").split("/"))
        if any(same(parts, path[:length]) for length in range(1, len(path) + 1)):
            result = not pattern.startswith("!")
    return result


def same(pattern: Path, path: Path) -> bool:
    """Whether names match a pattern, in which `**` is any number of them, but at its end at least one."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return bool(path) if len(pattern) == 1 else any(same(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and named(path[0], pattern[0]) and same(pattern[1:], path[1:])


def named(name: str, pattern: str) -> bool:
    """Whether one name matches a pattern; what a shell writes `[!a]` is `[^a]` here."""
    return fnmatch.fnmatchcase(name, pattern.replace("[^", "[!"))


def get(tree: Directory, path: Path) -> Node | None:
    """What lies at a path; no link is followed."""
    here: Node | None = tree
    for name in path:
        here = here.names.get(name) if isinstance(here, Directory) else None
    return here


def follow(tree: Directory, path: Path) -> Path:
    """The path with all links followed inside of the tree. Raises Refused where they go round in circles."""
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
    """A source without `.` and `..`, which are taken out as text, before any link is looked at."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def matches(tree: Directory, text: str) -> list[Path]:
    """The paths that a source stands for. A pattern may stand for nothing; a plain path is looked at later.

    Links are followed before the first pattern; one that a pattern matches is followed by who copies it.
    """
    parts = clean(text)
    if not any(character in part for part in parts for character in "*?["):
        return [parts]
    plain = next(n for n, part in enumerate(parts) if any(character in part for character in "*?["))
    start = follow(tree, parts[:plain])
    if get(tree, start) is None:
        raise Refused("what stands before the pattern does not exist")
    found: list[Path] = [start]
    for part in parts[plain:]:
        below = []
        for path in found:
            at = get(tree, path)
            if isinstance(at, Directory):
                below += [(*path, name) for name in sorted(at.names) if named(name, part)]
        found = below
    return found


def flat(tree: Directory, path: Path = ()) -> dict[str, tuple[object, ...]]:
    """Path -> what it is, for comparing; of hard links the group is named by its first path."""
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
