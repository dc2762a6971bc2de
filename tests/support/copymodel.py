"""COPY as its documentation tells it, on trees of plain values: slow, and short enough to be believed.

What it says about a copy is what the real planner has to come to. Paths are tuples of names.
"""

from __future__ import annotations

import copy as copying
import fnmatch
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True)
class Copy:
    """One instruction: `owner` is --chown, `mode` --chmod. A context's files belong to (0, 0), as if --chown said so."""

    sources: tuple[str, ...]
    dest: str
    owner: Owner | None = None
    mode: int | None = None

    def apply(self, source: Directory, image: Directory) -> Directory:
        """The image afterwards. Raises Refused; the image that was given stays as it is."""
        image = copying.deepcopy(image)
        found = [path for text in self.sources for path in matches(source, text)]
        kinds = [get(source, follow(source, path)) for path in found]
        if None in kinds:
            raise Refused("a source does not exist")
        dest, is_directory = self.destination(image)
        if not is_directory and sum(not isinstance(kind, Directory) for kind in kinds) > 1:
            raise Refused("several files onto one name")
        for path, node in zip(found, kinds, strict=True):
            if isinstance(node, Directory):
                self.put_contents(image, dest, node)
                continue
            inside = is_directory or isinstance(get(image, dest), Directory)
            target = (*dest, path[-1]) if inside else dest
            self.make_parents(image, target)
            assert node is not None
            self.put(image, target, node)
        return image

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

    def make_parents(self, image: Directory, path: Path) -> None:
        """Missing ones are 0755 and of root, or of who --chown names."""
        here = image
        for name in path[:-1]:
            below = here.names.setdefault(name, Directory({}, 0o755, self.owner or (0, 0), ANY_TIME))
            if not isinstance(below, Directory):
                raise Refused("a parent is no directory")
            here = below

    def put_contents(self, image: Directory, dest: Path, source: Directory) -> None:
        """A directory gives what is in it; one that exists keeps its mode and owner, a new one has the source's time."""
        at = get(image, dest)
        if at is None:
            self.make_parents(image, dest)
            mode = 0o755 if self.mode is None else self.mode
            at = Directory({}, mode, self.owner or (0, 0), source.mtime)
            parent = get(image, dest[:-1])
            assert isinstance(parent, Directory)
            parent.names[dest[-1]] = at
        if not isinstance(at, Directory):
            raise Refused("a directory onto something else")
        for name, node in source.names.items():
            self.put(image, (*dest, name), node)

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
                mode = node.mode if self.mode is None else self.mode
                parent.names[path[-1]] = replace(node, owner=owner, mode=mode)
            case Link():
                parent.names[path[-1]] = replace(node, owner=owner)
            case Directory():
                mode = node.mode if self.mode is None else self.mode
                names = at.names if isinstance(at, Directory) else {}
                parent.names[path[-1]] = Directory(names, mode, owner, node.mtime)
                for name, below in node.names.items():
                    self.put(image, (*path, name), below)


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
                below += [(*path, name) for name in sorted(at.names) if fnmatch.fnmatchcase(name, part)]
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
