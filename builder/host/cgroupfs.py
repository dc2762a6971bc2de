"""Where this process is in the hierarchies of cgroups, and how a cgroup is made and removed.

Source: the kernel's cgroup-v1/cgroups.rst and cgroup-v2.rst; cgroups(7), /proc/pid/cgroup; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from typing import TYPE_CHECKING

from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNIFIED = ""  # the name of version 2 among controllers
_PREFIX = "pybuild-"
_ESCAPE = re.compile(r"\\([0-7]{3})")
_TRIES, _WAIT_SECONDS = 100, 0.01  # until the last process of a cgroup that was killed has left it


@frozen
class CgroupPlace:
    """A cgroup that this process is in, by its directory here."""

    directory: str
    version: int


def own_cgroups() -> dict[str, CgroupPlace]:
    """The cgroups of this process: by controller in version 1, UNIFIED in version 2; not those that are mounted nowhere."""
    try:
        with (
            open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts,
            open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as cgroups,
        ):
            return parse_cgroups(mounts.read(), cgroups.read())
    except FileNotFoundError:
        return {}  # a kernel without cgroups


def parse_cgroups(mountinfo: str, cgroups: str) -> dict[str, CgroupPlace]:
    """The same, out of the text of the two files."""
    paths: dict[str, str] = {}
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, CgroupPlace] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, mountpoint = (_ESCAPE.sub(lambda match: chr(int(match[1], 8)), word) for word in before.split(" ")[3:5])
        kind, _, options = after.split(" ", 2)
        names = {"cgroup2": [UNIFIED], "cgroup": options.split(",")}.get(kind, [])
        for name in names:
            directory = _below(mountpoint, root, paths.get(name))
            if directory is not None:
                found.setdefault(name, CgroupPlace(directory, 2 if kind == "cgroup2" else 1))
    return found


def _below(mountpoint: str, root: str, path: str | None) -> str | None:
    """Where a cgroup is below a mount of its hierarchy, of which only what is below `root` can be seen."""
    if path is None or "/.." in path:
        return None  # of a cgroup namespace that does not hold us
    root, path = root.rstrip("/"), path.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return None
    return mountpoint.rstrip("/") + path[len(root) :]


class Cgroup:
    """A cgroup of ours. A lock on its directory tells others that we live."""

    def __init__(self, parent: str) -> None:
        """Make one. Raises OSError."""
        while True:
            self.path = f"{parent}/{_PREFIX}{os.urandom(8).hex()}"
            os.mkdir(self.path)
            fd = _locked(self.path)
            if fd is not None:
                self._fd = fd
                return
            # Somebody who removes what dead builds have left took it for that before it was locked.

    def write(self, file: str, text: str) -> None:
        """Change a setting. Raises OSError."""
        write(f"{self.path}/{file}", text)

    def count(self, file: str, key: str) -> int:
        """A number out of a file with a name and a number a line; 0 where there is none."""
        return _numbers(f"{self.path}/{file}").get(key, 0)

    def remove(self) -> None:
        """Remove it with those below it; one whose processes do not end is left to later builds."""
        try:
            for _ in range(_TRIES):
                if remove_tree(self.path):
                    return
                time.sleep(_WAIT_SECONDS)
        finally:
            os.close(self._fd)


def remove_abandoned(found: Mapping[str, CgroupPlace]) -> None:
    """Remove the cgroups that dead builds have left beside those that ours would be."""
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
    """Remove a cgroup and those below it; whether it is gone."""
    found = [path]
    for directory in found:  # it grows on the way
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
    """Write a setting in one piece. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def read_words(path: str) -> list[str]:
    """The words of a file. Raises OSError."""
    with open(path, encoding="ascii") as file:
        return file.read().split()


def _numbers(path: str) -> dict[str, int]:
    try:
        found = read_words(path)
    except OSError:
        return {}
    return {key: int(value) for key, value in _pairs(found) if value.isdigit()}


def _pairs(found: list[str]) -> Iterator[tuple[str, str]]:
    return zip(found[::2], found[1::2], strict=False)


def _locked(path: str) -> int | None:
    """A descriptor of a cgroup that nobody else has locked, with our lock on it; None where there is no such."""
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
