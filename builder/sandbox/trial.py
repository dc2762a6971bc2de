"""What the kernel refuses to a step here, found by doing it: in a container a host name, a new /proc or a new /sys.

The trial runs once, in the worker, before the first step. Only file systems and names in namespaces of its own change.
"""

from __future__ import annotations

import json
import os
import socket

from pybuild.builder.sandbox import linux
from pybuild.builder.sandbox.root import new_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

HOST_NAME, PROC, SYS = "host name", "/proc", "/sys"  # the names of the pieces
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWNET
_ATTRIBUTES = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC


def refused_pieces() -> dict[str, str]:
    """The pieces that the kernel refuses, each with what it says. None of them if not even namespaces are allowed:
    then the step itself fails, and says so.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _in_namespaces(writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    found: dict[str, str] = json.loads(text) if text else {}
    return found


def _in_namespaces(writer: int) -> NoReturn:
    """The namespaces of a step; a child of this process is the first one in the new pid namespace."""
    try:
        linux.unshare(_NAMESPACES)
        pid = os.fork()
        if pid == 0:
            pieces: tuple[tuple[str, Callable[[], object]], ...] = (
                (HOST_NAME, lambda: socket.sethostname("pybuild")),
                (PROC, lambda: new_mount("proc", (), _ATTRIBUTES)),
                (SYS, lambda: new_mount("sysfs", (), _ATTRIBUTES | linux.MOUNT_ATTR_RDONLY)),
            )
            refused = {}
            for name, attempt in pieces:
                try:
                    attempt()
                except OSError as error:
                    refused[name] = os.strerror(error.errno or 0)
            os.write(writer, json.dumps(refused).encode("ascii"))
            os._exit(0)
        os.waitpid(pid, 0)
    finally:
        os._exit(0)
