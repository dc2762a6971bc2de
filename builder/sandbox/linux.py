"""Linux system calls that Python's `os` lacks, one small typed function each.

Every function raises `OSError` with the kernel's errno, whose message names the call and whose `filename` is the path
(or the file system type, or the option) the call was about. Every file descriptor made here is close-on-exec.

This module runs inside a worker that was started as `python -SI`: it imports `os`, `ctypes`, `errno` and `struct` and
nothing else, and it keeps no state besides the handle of the C library, so all of it may be called after a fork.

Sources: the man pages of section 2, include/uapi/linux/{mount,openat2,sched,prctl,capability,seccomp}.h of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from pybuild.store.system.syscalls import call, raise_error

# As typing.TYPE_CHECKING, which would cost more time to import than all of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# unshare(2), setns(2)
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# mount(2); the propagation flags also serve mount_setattr(2)
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_NOATIME: Final = 0x400
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21

# umount2(2)
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

# fsmount(2), mount_setattr(2)
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR__ATIME: Final = 0x70
MOUNT_ATTR_RELATIME: Final = 0x0
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20

# the *at calls, open_tree(2), move_mount(2)
AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
OPEN_TREE_CLONE: Final = 0x1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40

# fsopen(2), fsconfig(2), fsmount(2)
FSOPEN_CLOEXEC: Final = 0x1
FSMOUNT_CLOEXEC: Final = 0x1
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_SET_PATH: Final = 3
FSCONFIG_SET_FD: Final = 5
FSCONFIG_CMD_CREATE: Final = 6

# prctl(2)
PR_SET_PDEATHSIG: Final = 1
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_GET_KEEPCAPS: Final = 7
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_NO_NEW_PRIVS: Final = 39
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

KEYCTL_JOIN_SESSION_KEYRING: Final = 1
SECCOMP_SET_MODE_FILTER: Final = 1
BPF_MAXINSNS: Final = 4096
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
_MOUNT_DATA_MAX: Final = 4095

# --- files ------------------------------------------------------------------------------------------------------------


def renameat2(old_dirfd: int, old: bytes, new_dirfd: int, new: bytes, flags: int = RENAME_NOREPLACE) -> None:
    """Rename `old` to `new`; with RENAME_NOREPLACE an existing `new` is EEXIST. renameat2(2)."""
    call("renameat2", old_dirfd, old, new_dirfd, new, flags, about=new)


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close all descriptors from `first` to `last`, both included. close_range(2), Linux 5.9."""
    call("close_range", first, last, 0)


# --- namespaces and mounts -------------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """Leave the namespaces named by the `CLONE_NEW*` flags for new ones. unshare(2)."""
    call("unshare", flags)


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace that `fd` refers to; `flags` says which type it must have, 0 takes any. setns(2)."""
    call("setns", fd, flags)


def pivot_root(new: bytes, old: bytes) -> None:
    """Make the mount at `new` the root and move the old root to `old`; both may be `.`. pivot_root(2)."""
    call("pivot_root", new, old, about=new)


def umount2(path: bytes, flags: int = 0) -> None:
    """Unmount `path`, with `MNT_*` and `UMOUNT_*` flags. umount2(2)."""
    call("umount2", path, flags, about=path)


def mount(source: bytes | None, target: bytes, fstype: bytes | None, flags: int, data: bytes | None = None) -> None:
    """The old mount(2), for propagation changes and for kernels that lack the new calls.

    The kernel silently cuts `data` after 4095 bytes, and an overlay with a cut list of layers may even mount. Longer
    data is refused here with E2BIG.
    """
    if data is not None and len(data) > _MOUNT_DATA_MAX:
        raise_error(errno.E2BIG, "mount", target, f" ({len(data)} bytes of options; {_MOUNT_DATA_MAX} are the most)")
    call("mount", source, target, fstype, flags, data, about=target)


def _context_log(fd: int) -> str:
    """What the kernel wrote to the log of a file system context, as ` (…; …)`, or an empty string.

    Each read gives one message, `e`, `w` or `i` and a blank before its text, and ENODATA when there is none left.
    """
    messages: list[str] = []
    for _ in range(16):
        try:
            line = os.read(fd, 4096)
        except OSError:
            break
        if not line:
            break
        messages.append(line[2:].decode("utf-8", "backslashreplace").strip())
    return f" ({'; '.join(messages)})" if messages else ""


def fsopen(fstype: str) -> int:
    """Begin a file system configuration context for `fstype` and return its descriptor. fsopen(2), Linux 5.2."""
    return call("fsopen", fstype.encode(), FSOPEN_CLOEXEC, about=fstype)


def _fsconfig(fd: int, command: int, key: str | None, value: bytes | None, aux: int) -> None:
    try:
        call("fsconfig", fd, command, None if key is None else key.encode(), value, aux, about=key)
    except OSError as error:
        raise_error(error.errno or errno.EIO, "fsconfig", error.filename, _context_log(fd))


def fsconfig_flag(fd: int, key: str) -> None:
    """Set the option `key`, which takes no value, for instance `ro` or `userxattr`. fsconfig(2)."""
    _fsconfig(fd, FSCONFIG_SET_FLAG, key, None, 0)


def fsconfig_string(fd: int, key: str, value: bytes) -> None:
    """Set the option `key` to `value`, which is at most 255 bytes long. fsconfig(2)."""
    _fsconfig(fd, FSCONFIG_SET_STRING, key, value, 0)


def fsconfig_path(fd: int, key: str, path: bytes, dirfd: int = AT_FDCWD) -> None:
    """Set the option `key` to the object at `path` below `dirfd`. Few file systems take this form. fsconfig(2)."""
    _fsconfig(fd, FSCONFIG_SET_PATH, key, path, dirfd)


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """Set the option `key` to the object behind the descriptor `value`. For overlay since Linux 6.13. fsconfig(2)."""
    _fsconfig(fd, FSCONFIG_SET_FD, key, None, value)


def fsconfig_create(fd: int) -> None:
    """Make the superblock from the options set before. fsconfig(2)."""
    _fsconfig(fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """Make a mount, attached nowhere yet, of the created context `fd`; return its descriptor. fsmount(2), Linux 5.2."""
    try:
        return call("fsmount", fd, FSMOUNT_CLOEXEC, attr_flags)
    except OSError as error:
        raise_error(error.errno or errno.EIO, "fsmount", None, _context_log(fd))


def open_tree(dirfd: int, path: bytes, flags: int) -> int:
    """Open the mount at `path`, or with OPEN_TREE_CLONE a detached copy of it. open_tree(2), Linux 5.2."""
    return call("open_tree", dirfd, path, flags | OPEN_TREE_CLOEXEC, about=path)


def move_mount(from_fd: int, to_fd: int) -> None:
    """Attach the mount `from_fd` on top of the object `to_fd`; no path is looked up. move_mount(2), Linux 5.2."""
    call("move_mount", from_fd, b"", to_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(
    fd: int, attr_set: int = 0, attr_clr: int = 0, *, recursive: bool = False, propagation: int = 0
) -> None:
    """Set and clear `MOUNT_ATTR_*` of the mount `fd`, with `recursive` of all mounts below it as well.

    `propagation` is 0 (unchanged) or one of MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE. To change the access time
    mode put MOUNT_ATTR__ATIME into `attr_clr`. mount_setattr(2), Linux 5.12.
    """
    attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", attr_set, attr_clr, propagation, 0), 32)
    call("mount_setattr", fd, b"", AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0), attributes, 32)


# --- privileges of this process --------------------------------------------------------------------------------------


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three capability masks of this thread (bit n is capability number n). capset(2), version 3."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0), 8)
    low = [mask & 0xFFFFFFFF for mask in (effective, permitted, inheritable)]
    high = [mask >> 32 for mask in (effective, permitted, inheritable)]
    call("capset", header, ctypes.create_string_buffer(struct.pack("=6I", *low, *high), 24))


def _prctl(option: int, argument: int = 0, second: int = 0) -> int:
    # The kernel requires the unused arguments of several options to be zero.
    return call("prctl", option, argument, second, 0, 0)


def set_pdeathsig(signal: int) -> None:
    """Have `signal` sent to this process when the thread that forked it ends. PR_SET_PDEATHSIG.

    A parent that died before this call sends nothing, so compare os.getppid() afterwards. exec of a setuid program and
    changes of ids clear the setting.
    """
    _prctl(PR_SET_PDEATHSIG, signal)


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid core dumps, ptrace and reading of /proc/PID of this process by its peers. PR_SET_DUMPABLE."""
    _prctl(PR_SET_DUMPABLE, int(dumpable))


def capbset_drop(capability: int) -> None:
    """Take one capability out of the bounding set, for ever. EINVAL: the kernel has none of that number."""
    _prctl(PR_CAPBSET_DROP, capability)


def capbset_read(capability: int) -> bool:
    """Tell if the bounding set holds the capability. EINVAL: the kernel has none of that number."""
    return bool(_prctl(PR_CAPBSET_READ, capability))


def clear_ambient() -> None:
    """Empty the ambient capability set. PR_CAP_AMBIENT_CLEAR_ALL."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def set_keepcaps(keep: bool) -> None:
    """Keep the permitted set when the last user id 0 is given up. The effective set is lost anyway. PR_SET_KEEPCAPS."""
    _prctl(PR_SET_KEEPCAPS, int(keep))


def set_child_subreaper(reap: bool) -> None:
    """Adopt orphaned descendants in place of init. PR_SET_CHILD_SUBREAPER."""
    _prctl(PR_SET_CHILD_SUBREAPER, int(reap))


def reset_signals() -> None:
    """Give every signal its default action and block none, also 32 and 33, which the C library keeps for itself and does
    not let anybody set back: who started us may have left them ignored or blocked. rt_sigaction(2), rt_sigprocmask(2).
    """
    nothing = ctypes.create_string_buffer(32)  # struct sigaction of the kernel: SIG_DFL is 0
    for number in range(1, 65):
        if number not in (9, 19):  # SIGKILL, SIGSTOP
            call("rt_sigaction", number, nothing, None, 8)
    call("rt_sigprocmask", 2, nothing, None, 8)  # SIG_SETMASK


def no_new_privs() -> bool:
    """Tell if exec can no longer gain privileges, so that sudo and other setuid programs fail. PR_GET_NO_NEW_PRIVS."""
    return bool(_prctl(PR_GET_NO_NEW_PRIVS))


def keyctl(operation: int, *args: int | bytes | None) -> int:
    """keyctl(2), whose result depends on the operation."""
    return call("keyctl", operation, *args)


def join_session_keyring() -> int:
    """Replace this process's session keyring by a new, empty one, and return its serial number. ENOSYS: no keyrings."""
    return keyctl(KEYCTL_JOIN_SESSION_KEYRING, None)


def seccomp_set_mode_filter(program: bytes, flags: int = 0) -> None:
    """Load a seccomp filter for this thread and all it starts. seccomp(2), SECCOMP_SET_MODE_FILTER.

    `program` is an array of `struct sock_filter` of 8 bytes each. EACCES: no_new_privs is off and the thread lacks
    CAP_SYS_ADMIN in its user namespace. EINVAL: the kernel's checker refuses the program.
    """
    if not program or len(program) % 8 or len(program) // 8 > BPF_MAXINSNS:
        raise_error(errno.EINVAL, "seccomp", None, f" ({len(program)} bytes are no filter of 1 to 4096 instructions)")
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding, and a pointer.
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    call("seccomp", SECCOMP_SET_MODE_FILTER, flags, ctypes.create_string_buffer(fprog, len(fprog)))
