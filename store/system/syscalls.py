"""Linux system calls by number, and the two that the store and the sandbox share: openat2 and syncfs.

Every function raises `OSError` with the kernel's errno; its message names the call, its `filename` is the path (or the
file system type, or the option) the call was about. Every file descriptor made here is close-on-exec.

The sandbox worker, which runs as `python -SI`, imports this module: it needs `os`, `ctypes`, `errno` and `struct` and
nothing else. Its only state is the handle of the C library, so all of it may be called after a fork.

Sources: the man pages of section 2 and include/uapi/linux/openat2.h of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# As typing.TYPE_CHECKING, which would cost more time to import than all of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

# openat2(2), `how.resolve`
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

# (x86_64, aarch64). Calls added since Linux 5.1 have one number everywhere.
_NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "prctl": (157, 167),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "syncfs": (306, 267),
    "setns": (308, 268),
    "renameat2": (316, 276),
    "seccomp": (317, 277),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "mount_setattr": (442, 442),
}

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str:
    """The kernel's name of the instruction set this process runs on: `x86_64`, `aarch64`, or another `uname -m`.

    Under `setarch linux32` uname(2) names the 32-bit sibling although the process is a 64-bit one, so the size of a
    pointer decides between the two.
    """
    name = os.uname().machine
    if struct.calcsize("P") > struct.calcsize("I"):
        return {"i686": "x86_64", "armv8l": "aarch64"}.get(name, name)
    return name


_COLUMN: Final = {"x86_64": 0, "aarch64": 1}.get(machine())


def raise_error(code: int, call: str, subject: bytes | str | None, detail: str = "") -> NoReturn:
    message = f"{call}: {os.strerror(code)}{detail}"
    if subject is None:
        raise OSError(code, message)
    raise OSError(code, message, os.fsdecode(subject))


def call(call: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | None, about: bytes | str | None = None) -> int:
    """Make one system call and return its result. `bytes` are passed as C strings, None as a null pointer."""
    if _COLUMN is None:
        raise_error(errno.ENOSYS, call, about, f" (pybuild knows no system call numbers for {machine()})")
    values: list[ctypes.c_long | ctypes.c_char_p | ctypes.c_void_p | ctypes.Array[ctypes.c_char]] = []
    for arg in args:
        match arg:
            case int():
                values.append(ctypes.c_long(arg))
            case bytes():
                # A C string ends at the first NUL: without this check the kernel would see another, shorter path.
                if b"\0" in arg:
                    raise_error(errno.EINVAL, call, arg, " (NUL byte)")
                values.append(ctypes.c_char_p(arg))
            case None:
                values.append(ctypes.c_void_p(None))
            case _:
                values.append(arg)
    result: int = _libc.syscall(ctypes.c_long(_NUMBERS[call][_COLUMN]), *values)
    if result == -1:
        raise_error(ctypes.get_errno(), call, about)
    return result


def openat2(dirfd: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` below `dirfd` under the `RESOLVE_*` rules and return the descriptor. openat2(2), Linux 5.6.

    With RESOLVE_IN_ROOT or RESOLVE_BENEATH the kernel answers EAGAIN when something was renamed while it walked `..`;
    that is tried again a limited number of times, because whoever renames may do so for ever.
    """
    how = ctypes.create_string_buffer(struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve), 24)
    for _ in range(128):
        try:
            return call("openat2", dirfd, path, how, 24, about=path)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
    raise_error(errno.EAGAIN, "openat2", path)


def syncfs(fd: int) -> None:
    """Write everything of the file system that holds `fd` to its device; OSError: a write was lost. syncfs(2)."""
    call("syncfs", fd)
