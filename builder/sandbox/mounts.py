"""The mounts of one RUN besides its root filesystem. Each is an operation as data, and travels in the spec.

They are made in the order of their targets, so one can be inside another. A missing target is created if it is inside
another mount; in the image itself the scaffold already has it.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import asdict, dataclass

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.overlay import mount_overlay
from pybuild.builder.sandbox.root import OperationRefused, new_mount
from pybuild.store.system import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pybuild.builder.sandbox.root import Root

_NOSUID_NODEV = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
_NOSUID_NODEV_NOEXEC = _NOSUID_NODEV | linux.MOUNT_ATTR_NOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty directory in memory of `size` bytes. The kernel's default is half of the machine's memory."""

    target: str
    size: int | None = None
    read_only: bool = False

    def describe(self) -> str:
        return f"tmpfs on {self.target}"

    def execute(self, root: Root) -> None:
        options = [("mode", "1777")] + ([("size", str(self.size))] if self.size is not None else [])
        attributes = _NOSUID_NODEV | (linux.MOUNT_ATTR_RDONLY if self.read_only else 0)
        root.attach(new_mount("tmpfs", options, attributes), self.target, directory=True)


@dataclass(frozen=True, slots=True)
class File:
    """A file with generated content, read-only."""

    target: str
    content: str

    def describe(self) -> str:
        return f"read-only {self.target}"

    def execute(self, root: Root) -> None:
        name = root.new_name()
        _write(os.open(name, _NEW_FILE, 0o644, dir_fd=root.scratch), self.content)
        root.attach(_clone(root.scratch, name, _NOSUID_NODEV_NOEXEC), self.target, directory=False)


@dataclass(frozen=True, slots=True)
class Program:
    """A directory with one program in it, read-only."""

    target: str
    name: str
    content: str

    def describe(self) -> str:
        return f"the program {self.target}/{self.name}"

    def execute(self, root: Root) -> None:
        directory = root.new_name()
        os.mkdir(directory, 0o755, dir_fd=root.scratch)
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root.scratch)
        fd = os.open(self.name, _NEW_FILE, 0o755, dir_fd=parent)
        os.fchmod(fd, 0o755)
        _write(fd, self.content)
        os.close(parent)
        root.attach(_clone(root.scratch, directory, _NOSUID_NODEV), self.target, directory=True)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A part of the vault (see root.py) as a file in memory, read-only."""

    target: str
    offset: int
    size: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"a secret on {self.target}"

    def execute(self, root: Root) -> None:
        name = root.new_name()
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=root.scratch)
        with open(fd, "wb") as file:
            file.write(os.pread(root.vault, self.size, self.offset))
        _own(root, name, self)
        root.attach(_clone(root.scratch, name, _NOSUID_NODEV_NOEXEC), self.target, directory=False)


@dataclass(frozen=True, slots=True)
class AgentSocket:
    """A socket that leads to an SSH agent of the user, whose socket is `path` on the host."""

    target: str
    path: str
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"an ssh agent on {self.target}"

    def execute(self, root: Root) -> None:
        name = root.new_name()
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(fileno=os.dup(root.agents)) as server:
            os.fchdir(root.scratch)
            listener.bind(name)
            os.chdir("/")
            listener.listen()
            try:
                socket.send_fds(server, [os.fsencode(self.path)], [listener.fileno()])
            except BrokenPipeError as error:
                raise OperationRefused(f"the relay to the ssh agent for {self.target} has ended") from error
        _own(root, name, self)
        root.attach(_clone(root.scratch, name, _NOSUID_NODEV_NOEXEC), self.target, directory=False)


@dataclass(frozen=True, slots=True)
class BoundFiles:
    """A file or directory from an overlay of other layers, which this mounts first. Changes to it are lost.

    `path` has no symbolic links. `upper` and `work` are empty directories; a read-only mount does not use them.
    """

    target: str
    lowers: tuple[str, ...]  # topmost first, at least two
    upper: str
    work: str
    mountpoint: str  # an empty directory
    path: str
    directory: bool
    read_only: bool

    def describe(self) -> str:
        return f"{self.path} of {len(self.lowers)} directories on {self.target}"

    def execute(self, root: Root) -> None:
        fd = mount_overlay(self.lowers, None if self.read_only else (self.upper, self.work), self.mountpoint)
        _attach_files(root, fd, self)


@dataclass(frozen=True, slots=True)
class CopiedFiles:
    """A file or directory of the directory `root`, which holds copies made for this step: changes to them are lost.

    `path` has no symbolic links.
    """

    target: str
    root: str
    path: str
    directory: bool
    read_only: bool

    def describe(self) -> str:
        return f"a copy of {self.path} on {self.target}"

    def execute(self, root: Root) -> None:
        fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        _attach_files(root, fd, self)


@dataclass(frozen=True, slots=True)
class CacheDirectory:
    """A cache mount: the directory `path` in `store`, a directory of the store. Other steps can write to it too."""

    target: str
    store: str
    path: str
    read_only: bool

    def describe(self) -> str:
        return f"a cache on {self.target}"

    def execute(self, root: Root) -> None:
        fd = os.open(self.store, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            attributes = _NOSUID_NODEV | (linux.MOUNT_ATTR_RDONLY if self.read_only else 0)
            tree = _subtree(fd, self.path, attributes, directory=True)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            raise OperationRefused(f"the cache mount for {self.target} has no directory /{self.path}") from error
        finally:
            os.close(fd)
        root.attach(tree, self.target, directory=True)


MountOperation = Tmpfs | File | Program | SecretFile | AgentSocket | BoundFiles | CopiedFiles | CacheDirectory
_KINDS: dict[str, type[MountOperation]] = {
    kind.__name__: kind
    for kind in (Tmpfs, File, Program, SecretFile, AgentSocket, BoundFiles, CopiedFiles, CacheDirectory)
}


def to_json(mount: MountOperation) -> dict[str, object]:
    """The form for messages to the worker."""
    return {"kind": type(mount).__name__, **asdict(mount)}


def from_json(data: dict[str, Any]) -> MountOperation:
    """Read the result of `to_json`."""
    if "lowers" in data:
        data["lowers"] = tuple(data["lowers"])
    return _KINDS[data.pop("kind")](**data)


def _own(root: Root, name: str, mount: SecretFile | AgentSocket) -> None:
    """Give a file in the scratch directory its owner and mode."""
    try:
        os.chown(name, mount.uid, mount.gid, dir_fd=root.scratch)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise OperationRefused(
            f"{mount.target}: this namespace maps no user {mount.uid} or no group {mount.gid}"
        ) from error
    os.chmod(name, mount.mode, dir_fd=root.scratch)


def _write(fd: int, content: str) -> None:
    with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(content)


def _attach_files(root: Root, fd: int, mount: BoundFiles | CopiedFiles) -> None:
    """Attach the files of a bind mount, which are below the directory `fd`; this closes it."""
    try:
        attributes = linux.MOUNT_ATTR_NODEV | (linux.MOUNT_ATTR_RDONLY if mount.read_only else 0)
        tree = _subtree(fd, mount.path, attributes, directory=mount.directory)
    finally:
        os.close(fd)
    root.attach(tree, mount.target, directory=mount.directory)


def _subtree(root: int, path: str, attributes: int, *, directory: bool) -> int:
    """A detached mount of `path` below the directory `root`. A symbolic link in the path is ELOOP."""
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
    flags = os.O_PATH | os.O_NOFOLLOW | (os.O_DIRECTORY if directory else 0)
    fd = syscalls.openat2(root, os.fsencode(path.strip("/")) or b".", flags, resolve)
    try:
        tree = linux.open_tree(fd, b"", linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_EMPTY_PATH)
    finally:
        os.close(fd)
    linux.mount_setattr(tree, attributes)
    return tree


def _clone(parent: int, name: str, attributes: int) -> int:
    """A detached read-only mount of a file or directory that pybuild made."""
    tree = linux.open_tree(parent, name.encode(), linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC)
    linux.mount_setattr(tree, attributes | linux.MOUNT_ATTR_RDONLY, _NOSUID_NODEV_NOEXEC & ~attributes)
    return tree
