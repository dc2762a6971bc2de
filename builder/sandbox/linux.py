"""Linux system calls that Python's `os` lacks, one small typed function each.

Every function raises `OSError` with the kernel's errno. Its message names the call; its `filename` is the path, the
filesystem type or the option that failed. File descriptors that are opened here are close-on-exec.

The sandbox worker, which runs as `python -SI`, imports this module: it imports only `os`, `ctypes`, `errno`, `struct`
and `syscalls`. Its only state is the handle of the C library, so every function can be called after a fork.

Sources: the man pages of section 2, include/uapi/linux/{mount,openat2,sched,prctl,capability,seccomp}.h of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from pybuild.store.system.syscalls import call, raise_error

# Instead of typing.TYPE_CHECKING: importing typing takes longer than importing this module.
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

# mount(2)
MS_NODEV: Final = 0x4
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18

# umount2(2)
MNT_DETACH: Final = 0x2

# fsmount(2), mount_setattr(2)
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8

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
FSCONFIG_CMD_CREATE: Final = 6

# prctl(2)
PR_SET_PDEATHSIG: Final = 1
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

KEYCTL_JOIN_SESSION_KEYRING: Final = 1
SECCOMP_SET_MODE_FILTER: Final = 1
BPF_MAXINSNS: Final = 4096
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 0x1
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
_MOUNT_DATA_MAX: Final = 4095

# --- descriptors ------------------------------------------------------------------------------------------------------


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close all descriptors from `first` to `last`, both included. close_range(2), Linux 5.9."""
    call("close_range", first, last, 0)


# --- namespaces and mounts -------------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """Leave the namespaces named by the `CLONE_NEW*` flags for new ones. unshare(2)."""
    call("unshare", flags)


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace that `fd` refers to. `flags` is the type that it must have, 0 allows any. setns(2)."""
    call("setns", fd, flags)


def pivot_root(new: bytes, old: bytes) -> None:
    """Make the mount at `new` the root and move the old root to `old`; both may be `.`. pivot_root(2)."""
    call("pivot_root", new, old, about=new)


def umount2(path: bytes, flags: int = 0) -> None:
    """Unmount `path`, with `MNT_*` and `UMOUNT_*` flags. umount2(2)."""
    call("umount2", path, flags, about=path)


def mount(source: bytes | None, target: bytes, fstype: bytes | None, flags: int, data: bytes | None = None) -> None:
    """The old mount(2), for propagation changes and for kernels without the new calls.

    The kernel silently cuts `data` after 4095 bytes, and an overlay with a cut list of layers can even mount. So longer
    data is E2BIG here.
    """
    if data is not None and len(data) > _MOUNT_DATA_MAX:
        raise_error(errno.E2BIG, "mount", target, f" ({len(data)} bytes of options; the limit is {_MOUNT_DATA_MAX})")
    call("mount", source, target, fstype, flags, data, about=target)


def _context_log(fd: int) -> str:
    """The kernel's messages in the log of a filesystem context, as ` (…; …)`; empty if there are none.

    Each read returns one message: `e`, `w` or `i`, a blank, and the text. After the last one it is ENODATA.
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
    """Open a configuration context for a new filesystem; return its descriptor. fsopen(2), Linux 5.2."""
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


def fsconfig_create(fd: int) -> None:
    """Create the superblock with the options that were set. fsconfig(2)."""
    _fsconfig(fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """Make a detached mount of the created context `fd`; return its descriptor. fsmount(2), Linux 5.2."""
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


def mount_setattr(fd: int, attr_set: int = 0, attr_clr: int = 0, *, recursive: bool = False) -> None:
    """Set and clear `MOUNT_ATTR_*` of the mount `fd`; `recursive`: and of all below it. mount_setattr(2), Linux 5.12."""
    # struct mount_attr: attr_set, attr_clr, propagation (0: unchanged), userns_fd.
    attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", attr_set, attr_clr, 0, 0), 32)
    call("mount_setattr", fd, b"", AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0), attributes, 32)


# --- privileges of this process --------------------------------------------------------------------------------------


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three capability masks of this thread (bit n is capability number n). capset(2), version 3."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0), 8)
    low = [mask & 0xFFFFFFFF for mask in (effective, permitted, inheritable)]
    high = [mask >> 32 for mask in (effective, permitted, inheritable)]
    call("capset", header, ctypes.create_string_buffer(struct.pack("=6I", *low, *high), 24))


def _prctl(option: int, argument: int = 0, second: int = 0) -> int:
    # For several options the kernel requires unused arguments to be zero.
    return call("prctl", option, argument, second, 0, 0)


def set_pdeathsig(signal: int) -> None:
    """Make the kernel send `signal` to this process when the thread that forked it ends. PR_SET_PDEATHSIG.

    If the parent died before this call, no signal comes, so compare os.getppid() afterwards. exec of a setuid program
    and changes of ids clear the setting.
    """
    _prctl(PR_SET_PDEATHSIG, signal)


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid core dumps, ptrace and reading of /proc/PID of this process by its peers. PR_SET_DUMPABLE."""
    _prctl(PR_SET_DUMPABLE, int(dumpable))


def capbset_drop(capability: int) -> None:
    """Remove one capability from the bounding set, forever. EINVAL: the kernel has no capability of that number."""
    _prctl(PR_CAPBSET_DROP, capability)


def capbset_read(capability: int) -> bool:
    """Whether the bounding set has the capability. EINVAL: the kernel has no capability of that number."""
    return bool(_prctl(PR_CAPBSET_READ, capability))


def clear_ambient() -> None:
    """Empty the ambient capability set. PR_CAP_AMBIENT_CLEAR_ALL."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def set_child_subreaper(reap: bool) -> None:
    """Adopt orphaned descendants in place of init. PR_SET_CHILD_SUBREAPER."""
    _prctl(PR_SET_CHILD_SUBREAPER, int(reap))


def reset_signals() -> None:
    """Give every signal its default action, and block none: a parent process could have left some ignored or blocked.

    That includes 32 and 33, which the C library reserves and does not let programs reset. rt_sigaction(2),
    rt_sigprocmask(2).
    """
    zeros = ctypes.create_string_buffer(32)  # the kernel's struct sigaction, where SIG_DFL is 0; and an empty mask
    for number in range(1, 65):
        if number not in (9, 19):  # SIGKILL, SIGSTOP
            call("rt_sigaction", number, zeros, None, 8)
    call("rt_sigprocmask", 2, zeros, None, 8)  # SIG_SETMASK


def join_session_keyring() -> int:
    """Give this process a new, empty session keyring; return its serial number. ENOSYS: the kernel has no keyrings."""
    return call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)


def landlock_scope(scopes: int) -> None:
    """Keep this thread and its children from what is outside of them, by `LANDLOCK_SCOPE_*`. landlock(7), Linux 6.12.

    E2BIG: an older kernel. ENOSYS, EOPNOTSUPP: Landlock is not built in, or not switched on. EPERM: no_new_privs is off and
    the thread lacks CAP_SYS_ADMIN in its user namespace.
    """
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", 0, 0, scopes), 24)
    ruleset = call("landlock_create_ruleset", attributes, 24, 0)
    try:
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def seccomp_set_mode_filter(program: bytes, flags: int = 0) -> None:
    """Load a seccomp filter for this thread and its children. seccomp(2), SECCOMP_SET_MODE_FILTER.

    `program` is an array of `struct sock_filter` of 8 bytes each. EACCES: no_new_privs is off and the thread lacks
    CAP_SYS_ADMIN in its user namespace. EINVAL: the kernel's checker refuses the program.
    """
    if not program or len(program) % 8 or len(program) // 8 > BPF_MAXINSNS:
        raise_error(
            errno.EINVAL,
            "seccomp",
            None,
            f" ({len(program)} bytes are not a filter of 1 to {BPF_MAXINSNS} instructions)",
        )
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding, and a pointer.
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    call("seccomp", SECCOMP_SET_MODE_FILTER, flags, ctypes.create_string_buffer(fprog, len(fprog)))
