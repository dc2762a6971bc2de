"""Run a command that cannot create namespaces, for one of the two reasons that exist on real machines.

    no_namespaces.py filter COMMAND...    a seccomp filter answers EPERM to unshare, setns and clone with CLONE_NEW*,
                                          and ENOSYS to clone3, like the default filters of container engines
    no_namespaces.py sysctl COMMAND...    user.max_user_namespaces is 0 in a new user namespace

`sysctl` needs a user namespace itself; it does not change the setting of the machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_NUMBERS = {  # unshare, setns, clone, clone3
    "x86_64": (272, 308, 56, 435),
    "aarch64": (97, 268, 220, 435),
}
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_NEW_ANY = 0x7E020080  # all CLONE_NEW* flags


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def forbid_by_filter() -> None:
    """seccomp(2). In struct seccomp_data, the number of the call is at 0, the low half of its first argument at 16."""
    unshare, setns, clone, clone3 = _NUMBERS[os.uname().machine]
    code = [
        (_LOAD, 0, 0, 0),
        (_JUMP_EQUAL, 6, 0, unshare),
        (_JUMP_EQUAL, 5, 0, setns),
        (_JUMP_EQUAL, 3, 0, clone3),
        (_JUMP_EQUAL, 0, 4, clone),
        (_LOAD, 0, 0, 16),
        (_JUMP_ANY_BIT, 1, 2, _NEW_ANY),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = b"".join(struct.pack("=HBBI", *line) for line in code)
    libc = ctypes.CDLL(None, use_errno=True)
    fprog = _Program(len(code), program)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(fprog), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def forbid_by_sysctl() -> None:
    """user_namespaces(7): the limit applies to namespaces below the one that sets it."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")


def main() -> None:
    how, *command = sys.argv[1:]
    {"filter": forbid_by_filter, "sysctl": forbid_by_sysctl}[how]()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
