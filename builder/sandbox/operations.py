"""The root filesystem of a step, as a list of operations.

Each operation is data that can describe itself (`describe`) and run (`execute`). Operations run in the step's own mount
namespace, before pivot_root, and access the image by descriptors only (root.py).

Sources: mount_setattr(2), move_mount(2), fsopen(2); the kernel's overlayfs.rst; the OCI runtime-spec,
config-linux.md, "Default Filesystems" and "Default Devices".
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.mounts import File
from pybuild.builder.sandbox.overlay import mount_overlay
from pybuild.builder.sandbox.report import LESS
from pybuild.builder.sandbox.root import OperationRefused, Root, new_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pybuild.builder.sandbox.spec import SandboxSpec

    class Operation(Protocol):
        def describe(self) -> str: ...
        def execute(self, root: Root) -> None: ...


_NOSUID_NODEV = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
_NOSUID_NODEV_NOEXEC = _NOSUID_NODEV | linux.MOUNT_ATTR_NOEXEC
_MOUNT_POINT = os.O_PATH | os.O_CLOEXEC
_MASKED = (
    "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats",
)  # fmt: skip
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_SYS_MASKED = ("firmware", "devices/virtual/powercap")
_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"), ("ptmx", "pts/ptmx"),
)  # fmt: skip


def operations_for(spec: SandboxSpec) -> list[Operation]:
    """The operations that build a step's root filesystem, in order."""
    return [
        Overlay(spec.lowers, spec.upper, spec.work, spec.mountpoint)
        if spec.lowers
        else Copies(spec.upper, spec.mountpoint),
        Proc(open=spec.insecure) if spec.own_proc else HostProc(open=spec.insecure),
        Sys(new_network=spec.new_network and spec.own_sys),
        Dev(spec.shm_size),
        Scratch(spec.files),
        File(spec.resolv_conf_target, spec.resolv_conf),
        File(spec.hosts_target, spec.hosts),
        *spec.mounts,
        Pivot(),
    ]


@dataclass(frozen=True, slots=True)
class Overlay:
    """The layers, with a writable directory on top. overlay.py has the options that keep hostile layers harmless.

    `volatile` (Linux 5.10, overlayfs.rst): neither the step's fsync nor the unmount flushes to disk. A step's changes
    count only after the store has sealed them, which flushes once for many steps; and an upper directory is never
    mounted as an upper directory again.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    mountpoint: str

    def describe(self) -> str:
        return f"overlay of {len(self.lowers)} directories"

    def execute(self, root: Root) -> None:
        root.fd = mount_overlay(self.lowers, (self.upper, self.work), self.mountpoint)


@dataclass(frozen=True, slots=True)
class Copies:
    """A directory with copies of the files of all layers, where overlays cannot be mounted. The step changes it.

    A mount of a filesystem of the machine keeps options that an overlay of the same directory would not have.
    """

    directory: str
    mountpoint: str

    def describe(self) -> str:
        return "the directory with the files of the step"

    def execute(self, root: Root) -> None:
        fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
            raise OperationRefused(
                "the filesystem of the store is mounted with noexec, so no program of a step can start",
                hint="choose another place with --root",
            )
        root.fd = linux.open_tree(fd, b"", linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_EMPTY_PATH)
        os.close(fd)
        linux.mount_setattr(root.fd, linux.MOUNT_ATTR_NODEV)
        place = os.open(self.mountpoint, _MOUNT_POINT | os.O_DIRECTORY | os.O_NOFOLLOW)
        linux.move_mount(root.fd, place)
        os.close(place)


@dataclass(frozen=True, slots=True)
class Proc:
    """A new procfs with the step's own process ids. Unless `open`, files about the machine are masked or read-only."""

    open: bool

    def describe(self) -> str:
        return "proc on /proc" if self.open else "proc on /proc, parts of it masked or read-only"

    def execute(self, root: Root) -> None:
        place = root.open_directory("proc")
        try:
            proc = new_mount("proc", (), _NOSUID_NODEV_NOEXEC)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise OperationRefused(
                    "this container forbids a new /proc, because its own /proc is partly hidden",
                    hint="start it with --security-opt systempaths=unconfined (Docker), --security-opt unmask=ALL (podman) or"
                    f" procMount: Unmasked (Kubernetes); or {LESS}",
                ) from error
            raise
        linux.move_mount(proc, place)
        os.close(place)
        for name in () if self.open else _READ_ONLY:
            _remount_read_only(proc, name)
        for name in () if self.open else _MASKED:
            _mask(proc, name)
        os.close(proc)


@dataclass(frozen=True, slots=True)
class HostProc:
    """The procfs of the machine or container, where the kernel refuses a new one: all of it read-only.

    It shows every process there by its number there, and of those outside the step what any user may read: names and
    command lines. What it hides stays hidden, because what covers parts of it comes along. Unless `open`, more is masked.
    """

    open: bool

    def describe(self) -> str:
        return "the proc of the host on /proc, read-only"

    def execute(self, root: Root) -> None:
        place = root.open_directory("proc")
        proc = linux.open_tree(
            linux.AT_FDCWD, b"/proc", linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_RECURSIVE
        )
        linux.mount_setattr(proc, _NOSUID_NODEV_NOEXEC | linux.MOUNT_ATTR_RDONLY, 0, recursive=True)
        linux.move_mount(proc, place)
        os.close(place)
        for name in () if self.open else _MASKED:
            _mask(proc, name)
        os.close(proc)


@dataclass(frozen=True, slots=True)
class Sys:
    """sysfs, read-only. A sysfs belongs to a network namespace, so a step on the host's network gets the host's.

    A new one has no cgroups in it: those of the host are bound there, for programs that look for their limits.
    """

    new_network: bool

    def describe(self) -> str:
        return f"{'a new sysfs' if self.new_network else 'the sysfs of the host'} on /sys, read-only"

    def execute(self, root: Root) -> None:
        place = root.open_directory("sys")
        if self.new_network:
            sys = new_mount("sysfs", (), _NOSUID_NODEV_NOEXEC | linux.MOUNT_ATTR_RDONLY)
        else:
            sys = linux.open_tree(
                linux.AT_FDCWD, b"/sys", linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_RECURSIVE
            )
            linux.mount_setattr(sys, _NOSUID_NODEV_NOEXEC | linux.MOUNT_ATTR_RDONLY, 0, recursive=True)
        linux.move_mount(sys, place)
        os.close(place)
        if self.new_network:
            _bind_cgroups(sys)
        for name in _SYS_MASKED:
            _mask(sys, name)
        os.close(sys)


@dataclass(frozen=True, slots=True)
class Dev:
    """A new /dev: six devices of the host, a terminal multiplexer, shared memory, message queues."""

    shm_size: int

    def describe(self) -> str:
        return f"tmpfs on /dev with devices, pts, mqueue and shm of {self.shm_size} bytes"

    def execute(self, root: Root) -> None:
        place = root.open_directory("dev")
        dev = new_mount(
            "tmpfs", (("mode", "755"), ("size", "65536k")), linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC
        )
        linux.move_mount(dev, place)
        os.close(place)
        for name, major, minor in _DEVICES:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=dev))
            _attach(_device(name, major, minor), dev, name)
        for name, target in _DEVICE_LINKS:
            os.symlink(target, name, dir_fd=dev)
        options = [("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620")]
        if _gid_is_mapped(5):
            options.append(("gid", "5"))
        self._mount_in(dev, "pts", "devpts", options, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC)
        self._mount_in(dev, "mqueue", "mqueue", [], _NOSUID_NODEV_NOEXEC)
        self._mount_in(dev, "shm", "tmpfs", [("mode", "1777"), ("size", str(self.shm_size))], _NOSUID_NODEV_NOEXEC)
        os.close(dev)

    @staticmethod
    def _mount_in(dev: int, name: str, kind: str, options: list[tuple[str, str | None]], attributes: int) -> None:
        os.mkdir(name, 0o755, dir_fd=dev)
        _attach(new_mount(kind, tuple(options), attributes), dev, name)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A directory in memory for files that pybuild makes for the step. It disappears with the old root."""

    directory: str

    def describe(self) -> str:
        return "tmpfs for files that pybuild makes"

    def execute(self, root: Root) -> None:
        root.scratch = new_mount("tmpfs", (("mode", "700"), ("size", "64m")), _NOSUID_NODEV_NOEXEC)
        place = os.open(self.directory, _MOUNT_POINT | os.O_DIRECTORY | os.O_NOFOLLOW)
        linux.move_mount(root.scratch, place)
        os.close(place)


@dataclass(frozen=True, slots=True)
class Pivot:
    """Switch to the new root and unmount the old one with everything below it."""

    def describe(self) -> str:
        return "the new root in place of the old one"

    def execute(self, root: Root) -> None:
        os.fchdir(root.fd)
        linux.pivot_root(b".", b".")
        linux.umount2(b".", linux.MNT_DETACH)
        os.chdir("/")


def _attach(tree: int, parent: int, name: str) -> None:
    """Attach a mount to a name in a directory that pybuild made, and close it."""
    place = os.open(name, _MOUNT_POINT | os.O_NOFOLLOW, dir_fd=parent)
    linux.move_mount(tree, place)
    os.close(place)
    os.close(tree)


def _device(name: str, major: int, minor: int) -> int:
    """A detached mount of a device of the host, after a check of its numbers."""
    tree = linux.open_tree(linux.AT_FDCWD, f"/dev/{name}".encode(), linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC)
    found = os.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(major, minor):
        raise OperationRefused(f"/dev/{name} of this machine is not device {major}:{minor}")
    return tree


def _mask(parent: int, name: str) -> None:
    """Cover a file with /dev/null, or a directory with an empty read-only one. A missing one is skipped."""
    try:
        place = os.open(name, _MOUNT_POINT | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(os.fstat(place).st_mode):
        cover = new_mount(
            "tmpfs",
            (("mode", "755"), ("size", "0"), ("nr_inodes", "2")),
            _NOSUID_NODEV_NOEXEC | linux.MOUNT_ATTR_RDONLY,
        )
    else:
        cover = _device("null", 1, 3)
    linux.move_mount(cover, place)
    os.close(cover)
    os.close(place)


def _remount_read_only(parent: int, name: str) -> None:
    """Make a part of a mount read-only, by a bind mount over itself. A missing one is skipped."""
    try:
        place = os.open(name, _MOUNT_POINT | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return
    tree = linux.open_tree(parent, name.encode(), linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_RECURSIVE)
    linux.mount_setattr(tree, _NOSUID_NODEV_NOEXEC | linux.MOUNT_ATTR_RDONLY, 0, recursive=True)
    linux.move_mount(tree, place)
    os.close(tree)
    os.close(place)


def _bind_cgroups(sys: int) -> None:
    """Attach the host's cgroup file systems to a new sysfs, read-only. A kernel without cgroups has no place for them."""
    flags = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC | linux.AT_RECURSIVE
    try:
        place = os.open("fs/cgroup", _MOUNT_POINT | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=sys)
        tree = linux.open_tree(linux.AT_FDCWD, b"/sys/fs/cgroup", flags)
    except FileNotFoundError:
        return
    linux.mount_setattr(tree, _NOSUID_NODEV_NOEXEC | linux.MOUNT_ATTR_RDONLY, 0, recursive=True)
    linux.move_mount(tree, place)
    os.close(tree)
    os.close(place)


def _gid_is_mapped(gid: int) -> bool:
    with open("/proc/self/gid_map", encoding="ascii") as file:
        extents = [[int(word) for word in line.split()] for line in file]
    return any(inside <= gid < inside + count for inside, _, count in extents)
