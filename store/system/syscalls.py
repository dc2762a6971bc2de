"""Linux system calls: `call` makes one by its number; openat2, renameat2 and syncfs have functions of their own.

Every function raises `OSError` with the kernel's errno. Its message names the call; its `filename` is the path, the
filesystem type or the option that failed. File descriptors that are opened here are close-on-exec.

The sandbox worker, which runs as `python -SI`, imports this module: it imports only `os`, `ctypes`, `errno` and
`struct`. Its only state is the handle of the C library, so every function can be called after a fork.

Sources: the man pages of section 2, include/uapi/linux/openat2.h and fs.h of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# Instead of typing.TYPE_CHECKING: importing typing takes longer than importing this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

# openat2(2), `how.resolve`
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 0x02

# (x86_64, aarch64). Calls added since Linux 5.1 have the same number on every architecture.
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
    "setns": (308, 268),
    "renameat2": (316, 276),
    "seccomp": (317, 277),
    "statx": (332, 291),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "close_range": (436, 436),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
}

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# openat2 has a prototype of its own, because COPY opens every file of a context with it: ctypes then converts the
# arguments in C. Measured with opening and closing a small file: 3.3 us instead of 4.3 us (os.open: 2.0 us).
_openat2: Final = _libc["syscall"]  # indexing gives a new function object, an attribute always the same one
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_openat2.restype = ctypes.c_long
_OPENAT2: Final = 437
_OPEN_HOW: Final = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve
_ATTEMPTS: Final = 128
_WRITE: Final = 0x02  # SYNC_FILE_RANGE_WRITE
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_STATX_BTIME: Final = 0x800
_STATX_SIZE: Final = 256  # bytes of struct statx
_STATX_MASK: Final = struct.Struct("=I")  # its first field
_STATX_BIRTH: Final = struct.Struct("=qI")  # seconds and nanoseconds, at byte 80


def machine() -> str:
    """The kernel's name for the instruction set of this process: `x86_64`, `aarch64`, or another `uname -m`.

    Under `setarch linux32` uname(2) names the 32-bit variant although the process is a 64-bit one; the size of a
    pointer decides between the two.
    """
    name = os.uname().machine
    if struct.calcsize("P") > struct.calcsize("I"):
        return {"i686": "x86_64", "armv8l": "aarch64"}.get(name, name)
    return name


_COLUMN: Final = {"x86_64": 0, "aarch64": 1}.get(machine())


def raise_error(code: int, call: str, subject: bytes | str | None, detail: str = "") -> NoReturn:
    """Raise the OSError for errno `code` of a call; `subject` becomes its `filename`, `detail` ends its message."""
    message = f"{call}: {os.strerror(code)}{detail}"
    if subject is None:
        raise OSError(code, message)
    raise OSError(code, message, os.fsdecode(subject))


def call(call: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | None, about: bytes | str | None = None) -> int:
    """Make one system call and return its result. `bytes` are passed as C strings, None as a null pointer.

    Raises OSError (ENOSYS) on an architecture whose system call numbers are unknown.
    """
    if _COLUMN is None:
        raise_error(errno.ENOSYS, call, about, f" (pybuild knows no system call numbers for {machine()})")
    values: list[ctypes.c_long | ctypes.c_char_p | ctypes.c_void_p | ctypes.Array[ctypes.c_char]] = []
    for arg in args:
        match arg:
            case int():
                values.append(ctypes.c_long(arg))
            case bytes():
                # A C string ends at the first NUL: without this check the kernel would see a different, shorter path.
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

    With RESOLVE_IN_ROOT or RESOLVE_BENEATH the kernel answers EAGAIN if something was renamed while it walked `..`. The
    number of attempts is limited, because an attacker could rename forever.
    """
    if b"\0" in path:  # see `call`
        raise_error(errno.EINVAL, "openat2", path, " (NUL byte)")
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_ATTEMPTS):
        fd: int = _openat2(_OPENAT2, dirfd, path, how, 24)
        if fd != -1:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise_error(code, "openat2", path)
    raise_error(errno.EAGAIN, "openat2", path)


def exchange(first: bytes, second: bytes, directory: int | None = None, of_second: int | None = None) -> None:
    """Exchange two names in one step. renameat2(2), RENAME_EXCHANGE, Linux 3.15.

    Relative paths start at `directory`, that of the second one at `of_second` if it is given.

    Raises OSError: ENOENT if one does not exist; EINVAL, ENOSYS if the filesystem or the kernel cannot do it.
    """
    start = _AT_FDCWD if directory is None else directory
    call("renameat2", start, first, start if of_second is None else of_second, second, _RENAME_EXCHANGE, about=second)


def birth_time(directory: int, name: bytes) -> int:
    """When a file was made, in ns since the epoch; 0 if the filesystem does not know. Links are not followed. statx(2)."""
    found = ctypes.create_string_buffer(_STATX_SIZE)
    call("statx", directory, name, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, found, about=name)
    if not _STATX_MASK.unpack_from(found)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _STATX_BIRTH.unpack_from(found, 80)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def syncfs(fd: int) -> None:
    """Write all data of the filesystem that holds `fd` to its device. Raises OSError if a write was lost. syncfs(2)."""
    if _libc.syncfs(fd):
        raise_error(ctypes.get_errno(), "syncfs", None)


def start_writing(fd: int, offset: int, size: int) -> None:
    """Have the kernel begin to write a part of a file to its device, without waiting; a later `syncfs` has less to do.

    sync_file_range(2), SYNC_FILE_RANGE_WRITE. It is only a hint, so errors are ignored.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _WRITE)
