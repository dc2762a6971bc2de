"""The cgroups of this process, and how to make and remove a cgroup.

Source: the kernel's cgroup-v1/cgroups.rst and cgroup-v2.rst; cgroups(7), /proc/pid/cgroup; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

from pybuild.builder.host.mountinfo import own_mounts
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pybuild.builder.host.mountinfo import VisibleMount

UNIFIED = ""  # stands for version 2 in maps by the name of a controller
_PREFIX = "pybuild-"
_TRIES, _WAIT_SECONDS = 100, 0.01  # a killed process takes a while to leave its cgroup


@frozen
class CgroupPlace:
    """A cgroup that this process is in: its directory, and the version of its hierarchy."""

    directory: str
    version: int


def own_cgroups() -> dict[str, CgroupPlace]:
    """The cgroups of this process whose hierarchy is mounted, by controller. The key of version 2 is UNIFIED."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape", newline="\n") as cgroups:
            return parse_cgroups(own_mounts(), cgroups.read())
    except FileNotFoundError:
        return {}  # a kernel without cgroups


def parse_cgroups(mounts: Iterable[VisibleMount], cgroups: str) -> dict[str, CgroupPlace]:
    """The same, from the mounts and the text of /proc/self/cgroup."""
    paths: dict[str, str] = {}
    for line in cgroups.split("\n"):
        _, controllers, path = (*line.split(":", 2), "", "", "")[:3]
        if path.startswith("/"):
            paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, CgroupPlace] = {}
    for mount in mounts:
        names = {"cgroup2": [UNIFIED], "cgroup": mount.options.split(",")}.get(mount.kind, [])
        for name in names:
            directory = _below(mount.mount_point, mount.root, paths.get(name))
            if directory is not None:
                found.setdefault(name, CgroupPlace(directory, 2 if mount.kind == "cgroup2" else 1))
    return found


def _below(mountpoint: str, root: str, path: str | None) -> str | None:
    """The directory of a cgroup below a mount that shows the part of its hierarchy below `root`; None if outside."""
    if path is None or "/.." in path:
        return None  # the cgroup is outside our cgroup namespace
    root, path = root.rstrip("/"), path.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return None
    return mountpoint.rstrip("/") + path[len(root) :] or "/"


class Cgroup:
    """A cgroup that this process has made. A lock on its directory tells other builds that its owner is alive."""

    def __init__(self, parent: str) -> None:
        """Make it below the directory `parent`. Raises OSError."""
        while True:
            self.path = f"{parent}/{_PREFIX}{os.urandom(8).hex()}"
            os.mkdir(self.path)
            fd = _locked(self.path)
            if fd is not None:
                self._fd = fd
                return
            # Before it was locked, another build mistook it for the cgroup of a dead build and removed it.

    def write(self, file: str, text: str) -> None:
        """Change a setting. Raises OSError."""
        write(f"{self.path}/{file}", text)

    def count(self, file: str, key: str) -> int:
        """The number after `key` in a file with a name and a number per line; 0 if there is none."""
        return _numbers(f"{self.path}/{file}").get(key, 0)

    def remove(self) -> None:
        """Remove it and the cgroups below it. If its processes do not end, a later build removes it."""
        try:
            for _ in range(_TRIES):
                if remove_tree(self.path):
                    return
                time.sleep(_WAIT_SECONDS)
        finally:
            os.close(self._fd)


def remove_abandoned(found: Mapping[str, CgroupPlace]) -> None:
    """Remove the cgroups that dead builds have left in these directories."""
    for directory in {place.directory for place in found.values()}:
        try:
            names = [name for name in os.listdir(directory) if name.startswith(_PREFIX)]
        except OSError:
            continue
        for name in names:
            path = f"{directory}/{name}"
            fd = _locked(path)
            if fd is not None:
                remove_tree(path)
                os.close(fd)


def remove_tree(path: str) -> bool:
    """Remove a cgroup and the cgroups below it; return whether that succeeded."""
    found = [path]
    for directory in found:  # the loop adds to the list
        try:
            with os.scandir(directory) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    for directory in reversed(found):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True


def write(path: str, text: str) -> None:
    """Write a setting with one write(2). Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def read_words(path: str) -> list[str]:
    """Read a file and split it at white space. Raises OSError."""
    with open(path, encoding="ascii") as file:
        return file.read().split()


def _numbers(path: str) -> dict[str, int]:
    try:
        words = read_words(path)
    except OSError:
        return {}
    return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}


def _locked(path: str) -> int | None:
    """Lock a cgroup's directory; return its descriptor. None if it does not exist or another process holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno != errno.EWOULDBLOCK:
            raise
        return None
    if os.path.isdir(path):
        return fd
    os.close(fd)
    return None
